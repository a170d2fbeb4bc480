"""Workflows: phases, steps, the outputs of a step, and the gates that score them."""
