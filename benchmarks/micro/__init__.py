"""Micro-benchmarks, for pytest-benchmark."""
