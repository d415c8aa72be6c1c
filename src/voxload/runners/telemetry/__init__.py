"""Live figures out of a run: OTLP, Prometheus, Azure Monitor."""
