"""The commands of doit that a user types; thin: parse, ask, print."""
