"""Several processes under one launcher, as its environment tells: read without loading torch.

`torchrun` and `accelerate launch` start WORLD_SIZE processes and number them by RANK, from 0 on;
LOCAL_WORLD_SIZE of them are on this machine.
"""

from __future__ import annotations

import os


def processes() -> int:
    """How many processes were launched together, 1 without a launcher."""
    return max(1, _number("WORLD_SIZE", 1))


def rank() -> int:
    """This process' number among them."""
    return _number("RANK", 0) if processes() > 1 else 0


def neighbours(among: int) -> int:
    """How many of the processes `among` all run on this machine: all, where the launcher does not say."""
    return max(1, min(among, _number("LOCAL_WORLD_SIZE", among)))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
