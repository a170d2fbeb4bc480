"""Child processes, files, locks."""
