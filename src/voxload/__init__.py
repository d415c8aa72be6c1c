"""voxload: load tests for real-time voice agents, measured from the caller's ear."""

__version__ = "0.1.0"
