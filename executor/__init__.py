"""Make for milestones: declared milestones, landed issue by issue, never done twice."""
