"""Training: what is trained on what, the losses, the loop, checkpoints, several processes."""
