"""Git, through explicit directories and a clean environment."""
