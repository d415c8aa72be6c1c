"""One process full of calls: the call's state machine, its socket, and the shard that runs thousands of them."""
