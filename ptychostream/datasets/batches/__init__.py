"""Batches of groups: the order of an epoch, reading in windows, scaling, the loader."""
