"""Pull requests, local and on a forge."""
