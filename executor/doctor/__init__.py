"""Diagnosis of a repository and its state."""
