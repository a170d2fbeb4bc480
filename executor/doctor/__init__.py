"""Examination of a repository and its state."""
