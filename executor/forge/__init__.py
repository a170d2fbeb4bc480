"""The forge: pull requests, merges, and how far a milestone is, shown where people look."""
