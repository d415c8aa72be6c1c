"""Sound: the speech corpus, codecs, frames, and what a listener hears of an agent."""
