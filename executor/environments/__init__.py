"""Environments: tools load exactly one tree, and everything else from its lock or from the user's installation."""
