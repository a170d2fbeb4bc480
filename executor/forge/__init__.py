"""The forge: pull requests, merges, and the progress of a milestone where people look."""
