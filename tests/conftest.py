"""Before torch is loaded: threads that wait should not spin, and pictures are drawn without a screen."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("MPLBACKEND", "Agg")
