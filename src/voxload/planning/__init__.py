"""Capacity planning: what calls ask of each service, which limit gives way first, and what to ask for."""
