"""Measurements of the core; see README.md."""
