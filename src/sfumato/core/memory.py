"""How much memory is free, where asking is needed.

GPU      what the driver says
Linux    min(MemAvailable, limit - use of the control group): the kernel promises more than it has and
         ends the process that takes it at its word, without an error that could be caught
others   None: too much is refused when it is asked for, which is time enough
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def free(device: torch.device) -> int | None:
    """Bytes that can be taken on a device now; None where nobody has to ask."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [n for n in (_available(), *map(_left, GROUPS)) if n is not None]
    return min(found) if device.type == "cpu" and found else None


def _available() -> int | None:
    """MemAvailable: free, or in caches that give way; /proc/meminfo counts in KiB."""
    with suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _left(names: tuple[str, str]) -> int | None:
    """What the limit of the process' control group leaves; the word "max" is no limit."""
    with suppress(OSError, ValueError):
        limit, used = (int((GROUP / name).read_text()) for name in names)
        return max(0, limit - used)
    return None


def gigabytes(size: float) -> str:
    """18 GB, 1.2 GB, 350 MB: bytes as a message tells them."""
    if size < 1e9:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
