"""Load on a backend's plain HTTP endpoints."""
