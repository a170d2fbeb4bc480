"""Stop rules: changes that wait for a person, and base files that judge a change."""
