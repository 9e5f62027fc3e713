"""Floor 0: errors, postponed calls, noise by position, conditions, stable scalars."""
