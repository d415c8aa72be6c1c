"""Turns numbers into decisions: gates that pass, fail, or say that they cannot know."""
