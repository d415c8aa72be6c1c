"""The embedded voice agent: an agent with known latencies, quotas and faults, to develop and to calibrate against."""
