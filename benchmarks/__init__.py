"""Head-to-heads against peers: the same work, compared outputs, alternating runs. `python -m benchmarks` runs them all."""
