"""Load: when calls start, and what each caller brings along."""
