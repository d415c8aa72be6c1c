"""Runners: carry a plan to the processes that place its calls, and bring the numbers back."""
