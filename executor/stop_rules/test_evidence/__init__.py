"""Tests of a base and of a change: which exist, which were weakened, which judge."""
