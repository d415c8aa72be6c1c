"""voxload measured beside the tools that people would use instead: one target, one core, one run (`make bench`)."""
