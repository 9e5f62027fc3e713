"""Floor 6: the loop, the state it keeps, and the one place that writes files."""
