"""Floor 3: solvers as pure steps between two levels, and the one loop that iterates them."""
