"""Import plans of other tools as milestones."""
