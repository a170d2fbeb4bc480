"""Agents: calls, their output, the choice of the next one, its budget."""
