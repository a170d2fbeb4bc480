"""Nightly runs and their digest."""
