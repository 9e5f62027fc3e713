"""Floor 8: pictures, plots and the one-page report."""
