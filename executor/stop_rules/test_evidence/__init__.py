"""Tests of a base and of a change: which exist, which became weaker, which judge."""
