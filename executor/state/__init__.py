"""Events, the journal, and the pure fold and decisions over them."""
