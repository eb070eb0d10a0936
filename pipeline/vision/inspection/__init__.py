"""Looking into a training: its first batches, its learning rate."""
