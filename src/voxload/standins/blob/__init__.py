"""A stand-in for Azure Blob Storage: enough of its REST API for recordings and transcripts."""
