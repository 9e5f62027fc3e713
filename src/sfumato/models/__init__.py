"""Floor 4: generators: codec x density x conditioner."""
