"""For tests, ours and those of plugin authors: the dialect conformance suite, a virtual clock and a virtual link."""
