"""The doctor at the front door: the data in plain words and as a picture, or this machine in numbers."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..core.errors import StorageError
from ..data.dataset import Dataset
from ..data.ingest import MOST_BAD
from ..data.inspect import Report, examine
from ..data.loader import Loader
from ..data.sources import open_data
from ..report import grid
from ..training.storage import Disk
from .device import best_device

PREVIEW = 64


def preview_of(data: Dataset, seed: int = 0) -> Image.Image:
    """The exact tensors a model will see: the first examples of the first epoch."""
    ids = Loader(data, seed).at(0, min(PREVIEW, len(data)))
    return grid.grid(data.batch(ids).x, data.facts)


def doctor(
    data: str, *, options: Mapping[str, Any] | None = None, preview: Path | str | None = None
) -> Report:
    """Look at data as `train` would see them; optionally write the preview picture (StorageError)."""
    found = opened(data, options or {})
    if preview is not None:
        Disk().replace(Path(preview), grid.png(preview_of(found)))
    return examine(found)


def opened(data: str, options: Mapping[str, Any]) -> Dataset:
    """The data as `train` would see them without the bad files."""
    return open_data(data, **_given(options) | {"quarantine": True})


def write_preview(found: Dataset, path: Path) -> list[str]:
    """Write the preview picture; a sentence where it cannot be: what was found in the data is the news."""
    try:
        Disk().replace(path, grid.png(preview_of(found)))
    except StorageError as error:
        return [f"No preview was written to {path}: {error.what}. Give another place: --preview FILE.png"]
    return []


def train_command(data: str, options: Mapping[str, Any], report: Report) -> str:
    """The command that trains on just what was looked at, with --quarantine where it takes that."""
    words = [word for key, value in _given(options).items() for word in (f"--{key}", str(value))]
    if len(report.bad) > MOST_BAD * (report.count + len(report.bad)):
        words.append("--quarantine")
    return shlex.join(["sfumato", "train", "diffusevae", data, *words])


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def machine() -> dict[str, Any]:
    """Versions, device, threads, memory and disk, and whether this folder can be written to."""
    import torch

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
