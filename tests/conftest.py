"""Before torch is loaded: one thread, since kill tests fork a process whose threads would not come along;
and pictures are drawn without a screen. A test is known by one name in every process that collects it."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_collection_modifyitems(items):
    """Processes that share the suite compare their lists of names: an address in memory differs in each."""
    if moving := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"Names that change with every process; give ids: {moving[:3]}")
