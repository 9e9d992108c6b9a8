"""The loop and what it stands on: engine (devices), state (checkpoints), optimizers, health rules, trackers."""
