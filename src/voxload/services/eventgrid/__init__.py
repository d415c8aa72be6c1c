"""Load on an Event Grid topic: events are published at a rate, and followed to a webhook of our own."""
