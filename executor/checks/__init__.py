"""Checks on exact trees, and their verdicts."""
