"""Denoisers that steer another denoiser."""
