"""Load on Redis as a voice agent loads it: one session after the other is kept there while its call is up."""
