"""Plans of other tools as milestones."""
