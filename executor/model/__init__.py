"""Declarations: milestones, issues, plans, policy. Pure."""
