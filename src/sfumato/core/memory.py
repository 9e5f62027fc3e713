"""How much memory is free, where asking is needed.

GPU      what the driver says, and what torch has reserved and does not use: reserved - allocated
Linux    min(MemAvailable, limit - use of the control group + its cached files): the kernel promises more
         than it has and ends the process that takes it at its word, without an error that could be caught
others   None: too much is refused when it is asked for, which is time enough

A group's use counts files it has read, which give way as those in MemAvailable do. Swap is memory for what
must be held, if slow; for what a step works in it is none.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


class Group(NamedTuple):
    """Files of a control group that hold a number each, or the word "max"; cached: names in memory.stat."""

    limit: str
    used: str
    stat: str
    cached: tuple[str, ...]
    swap: str
    swapped: str


GROUPS = (
    Group(
        "memory.max",
        "memory.current",
        "memory.stat",
        ("inactive_file", "active_file"),
        "memory.swap.max",
        "memory.swap.current",
    ),
    Group(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_inactive_file", "total_active_file"),
        "",  # the first version limits memory and swap by their sum; the kernel's SwapFree holds
        "",
    ),
)


def free(device: torch.device, *, swap: bool = False) -> int | None:
    """Bytes that can be taken on a device now; None where nobody has to ask. swap: that of a CPU as well."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    if device.type != "cpu":
        return None
    beside = (_told("SwapFree:") or 0) if swap else 0
    available = _told("MemAvailable:")
    found = [] if available is None else [available + beside]
    found += [left for group in GROUPS if (left := _left(group, beside)) is not None]
    return min(found, default=None)


def _told(name: str) -> int | None:
    """Bytes of a line of /proc/meminfo, in KiB there; MemAvailable: free, or in caches that give way."""
    row = _row(MEMINFO, name)
    return None if row is None else 1024 * row


def _left(group: Group, swap: int) -> int | None:
    """What the limit of the process' control group leaves, with up to so much swap; "max" is no limit."""
    with suppress(OSError, ValueError):
        limit, used = (int((GROUP / name).read_text()) for name in (group.limit, group.used))
        used -= sum(_row(GROUP / group.stat, name) or 0 for name in group.cached)
        with suppress(OSError, ValueError):
            allowed, taken = (int((GROUP / name).read_text()) for name in (group.swap, group.swapped))
            swap = max(0, min(swap, allowed - taken))
        return min(limit, max(0, limit - used)) + swap
    return None


def _row(path: Path, name: str) -> int | None:
    """The number after a name that begins a line of a file."""
    with suppress(OSError, ValueError, IndexError):
        for line in path.read_text().splitlines():
            if (words := line.split())[:1] == [name]:
                return int(words[1])
    return None


def gigabytes(size: float) -> str:
    """18 GB, 1.2 GB, 350 MB: bytes as a message tells them."""
    if size < 1e9:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
