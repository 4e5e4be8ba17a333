"""Experiments: worker processes, what they run, and what is said to them."""
