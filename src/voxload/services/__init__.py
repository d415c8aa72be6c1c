"""Component tests: load on one service behind the agent, with the vendor's own client."""
