"""The two implementations that a workflow can run on; one is imported when it is chosen."""
