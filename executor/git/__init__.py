"""Run git with explicit directories and a clean environment."""
