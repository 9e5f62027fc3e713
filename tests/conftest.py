"""Before torch is loaded: one thread, since kill tests fork a process whose threads would not come along;
and pictures are drawn without a screen."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
