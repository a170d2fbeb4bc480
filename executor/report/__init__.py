"""Snapshots and reports of a milestone."""
