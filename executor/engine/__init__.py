"""The life of an issue: attempt, judgement, landing, recovery."""
