"""The doctor at the front door: the data in plain words and as a picture, or this machine in numbers."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..data.dataset import Dataset
from ..data.inspect import Report, examine
from ..data.loader import Loader
from ..data.sources import open_data
from ..report import grid
from ..training.storage import Disk

PREVIEW = 64


def preview_of(data: Dataset, seed: int = 0) -> Image.Image:
    """The exact tensors a model will see: the first examples of the first epoch."""
    ids = Loader(data, seed).at(0, min(PREVIEW, len(data)))
    return grid.grid(data.batch(ids).x, data.facts)


def doctor(
    data: str, *, options: Mapping[str, Any] | None = None, preview: Path | str | None = None
) -> Report:
    """Look at data as `train` would see them; optionally write the preview picture."""
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    found = open_data(data, **chosen | {"quarantine": True})
    if preview is not None:
        Disk().replace(Path(preview), grid.png(preview_of(found)))
    return examine(found)


def machine() -> dict[str, Any]:
    """Versions, device, threads, memory and disk, and whether this folder can be written to."""
    import torch

    from .run import best_device

    free = shutil.disk_usage(Path.cwd()).free
    device = best_device(None)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "sfumato": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "bfloat16 in hardware": bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        if device.type == "cpu" and torch.backends.mkldnn.is_available()
        else device.type == "cuda" and torch.cuda.is_bf16_supported(),
        "threads": torch.get_num_threads(),
        "free disk": f"{free / 2**30:.1f} GiB",
        "can write here": os.access(Path.cwd(), os.W_OK),
    }
