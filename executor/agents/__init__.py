"""Calling an agent, and understanding how the call ended."""
