"""Notices to people and to the status command."""
