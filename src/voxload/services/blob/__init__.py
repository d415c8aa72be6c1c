"""Load on Blob Storage: the recordings and transcripts of calls go up, come down, are listed and deleted."""
