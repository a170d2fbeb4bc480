"""Rules that stop a change until a person has seen it."""
