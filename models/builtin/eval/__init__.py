"""The held-out evaluation: items, scorer, and two ways to run it."""
