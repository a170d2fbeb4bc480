"""What is declared: milestones, issues, plans, policy. Pure."""
