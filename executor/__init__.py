"""Make for milestones: declared milestones, landed issue by issue by coding agents, never done twice."""

DISTRIBUTION = "make-for-milestones"
"""The distribution name of this package. Another package named `executor` in its place lacks this line."""
