"""Commands that set up, import and clean."""
