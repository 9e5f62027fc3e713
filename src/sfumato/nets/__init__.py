"""Floor 1: networks. They see plain tensors and a Condition, and know nothing of diffusion."""
