"""Agents: calls, output, selection of the next agent, budget."""
