"""Read and write declarations and rules."""
