"""Pure values and functions: no files, no clock, no randomness, no processes; facts and times are arguments."""
