"""ptychodus's own files, read and written: products, experiments and training data."""
