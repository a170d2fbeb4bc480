"""The completion gate and the release of a milestone."""
