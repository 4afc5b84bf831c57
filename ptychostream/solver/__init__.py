"""The iterative solver: object and probe from the patterns alone."""
