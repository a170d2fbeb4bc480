"""From a candidate to the branch: the queue of candidates, stop rules and review, and the landing itself."""
