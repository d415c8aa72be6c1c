"""Stand-ins for the services behind an agent: what the vendor's own client sees of them, with known latencies."""
