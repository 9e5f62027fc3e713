"""Floor 6: numbers with their protocol."""
