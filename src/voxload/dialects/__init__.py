"""Wire protocols of voice agents, one file each, without I/O, both sides."""
