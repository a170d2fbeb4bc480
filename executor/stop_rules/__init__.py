"""Stop rules: which changes wait for a person, and which files of the base judge a change."""
