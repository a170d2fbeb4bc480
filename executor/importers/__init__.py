"""Other plan formats, read into drafts of milestones."""
