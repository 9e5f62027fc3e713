"""Floor 1: distributions with event-summed log-probabilities in nats and noise by position."""
