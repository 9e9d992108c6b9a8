"""`python -m overture`, also for `torchrun -m overture run ...`."""

from overture.cli import main

main()
