"""Floor 5: losses, apart from the models they train."""
