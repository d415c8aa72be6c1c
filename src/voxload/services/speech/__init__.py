"""Load on Azure's Speech service: recognition of streams in real time, and synthesis."""
