"""Training: data, batches, losses, checkpoints."""
