"""Floor 1: from files to model tensors and back, and the doctor who looks at the files first."""
