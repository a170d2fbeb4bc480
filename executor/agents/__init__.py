"""Agents: how one is called, what its output means, who works next, what it may spend."""
