"""Levels, schedules, posteriors and losses of diffusion: everything that follows from (alpha, sigma)."""
