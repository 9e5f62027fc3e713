"""Solvers of the reverse process, the grids they step on, and the one loop that runs them."""
