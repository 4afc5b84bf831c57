"""Networks, forward physics and losses of the PyTorch backend."""
