"""Examination of the tests that a change adds."""
