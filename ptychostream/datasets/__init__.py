"""The data pipeline: sources are read into a store, a store is streamed as batches."""
