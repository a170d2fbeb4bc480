"""Environments: the tools of a tree load that tree, and all the rest from its lock or from what the user installed."""
