"""Issues that are worked on in several steps, with gates."""
