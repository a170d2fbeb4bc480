"""Reading and writing declarations and rules."""
