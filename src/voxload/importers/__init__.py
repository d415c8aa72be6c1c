"""Reads the load tests of other tools and makes scenarios of them."""
