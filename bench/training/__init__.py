"""Training and pruning of checkpoints."""
