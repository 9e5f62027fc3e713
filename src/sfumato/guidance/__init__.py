"""Floor 3: guidance. It wraps a denoiser and is a denoiser."""
