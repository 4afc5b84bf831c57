"""Reconstruct a store: patterns in, object out, with what the report and the pictures say of it."""
