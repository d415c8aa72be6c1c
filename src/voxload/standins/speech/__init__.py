"""A stand-in for Azure's Speech service: recognition and synthesis as its SDK sees them, with told latencies."""
