"""The training loop: stages, checkpoints, batches."""
