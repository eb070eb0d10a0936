"""A training's folder: its events, checkpoints, interrupts and system metrics."""
