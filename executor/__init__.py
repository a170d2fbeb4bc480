"""Make for milestones: declared milestones, landed issue by issue by coding agents, never done twice."""

DISTRIBUTION = "make-for-milestones"
"""The name that this package is installed by. Another package named `executor` in its place has no such line."""
