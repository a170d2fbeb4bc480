"""Workflows: phases, steps, what a step hands in, and the gates that read it."""
