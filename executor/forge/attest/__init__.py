"""Signed statements about landings, and their verifier."""
