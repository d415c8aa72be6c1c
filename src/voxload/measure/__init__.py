"""Measuring: histograms, what a shard records, and the summary of a run."""
