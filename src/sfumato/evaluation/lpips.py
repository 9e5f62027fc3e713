"""LPIPS, the learned perceptual distance of two pictures, where its weights are at hand (Zhang et al. 2018).

    d(x, y) = sum_l mean over positions of  | w_l (f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)|) |^2

with f_l the features of VGG-16 at five depths and w_l >= 0 learned from people's judgements; computed by
torch-fidelity from two published files, which must already lie on this machine: nothing is ever
downloaded. VGG-16 is checked against the hash in its published name. For the file of w_l none is published:
it is taken as it is, and the beginning of its SHA-256 stands beside every number it made. Lower is nearer; 0
for a picture and itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ..core.errors import RefusedError, UsageError
from .inception import to_rgb8

LEARNED = "weights-vgg16-lpips.pth"
# file -> first characters of its SHA-256, which torchvision puts into the name; "": not known, not checked
FILES = {"vgg16-397923af.pth": "397923af", LEARNED: ""}


def at_hand(folder: Path | None = None) -> bool:
    """Whether both files lie where torch keeps what it has loaded."""
    return all((_folder(folder) / name).is_file() for name in FILES)


def _folder(folder: Path | None) -> Path:
    return folder if folder is not None else Path(torch.hub.get_dir()) / "checkpoints"


def verify(folder: Path | None = None) -> str:
    """The beginning of the SHA-256 of the file of w_l, which cannot be checked and so must be told.

    UsageError if a file is missing, RefusedError if VGG-16 is not the published one.
    """
    found = ""
    for name, beginning in FILES.items():
        path = _folder(folder) / name
        if not path.is_file():
            raise UsageError(
                "LPIPS needs its weights on this machine, and nothing is downloaded unasked",
                where=path,
                remedy=f"Put {name} there (torchvision's VGG-16, torch-fidelity's LPIPS), or use SSIM.",
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(beginning):
            raise RefusedError(
                f"this is not the published file (SHA-256 {found[:8]}…, expected {beginning}…)",
                where=path,
                remedy="Fetch it again from where it is published, or use SSIM.",
            )
    return found[:8]  # of the last file, w_l


@final
class Lpips:
    """The distance of pairs of gray or RGB pictures (B, 1 or 3, H, W) in [-1, 1]."""

    def __init__(self) -> None:
        self.name = f"lpips-vgg16@{verify()}"  # stands in the protocol as the features
        try:
            from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS
        except (ImportError, RuntimeError, OSError) as error:
            raise UsageError(
                f"LPIPS needs torch-fidelity, which cannot be imported ({error})",
                remedy="pip install 'sfumato[metrics]' and a torchvision that fits your torch.",
            ) from None
        # torch reads both files as tensors only (weights_only), the default since the oldest torch allowed
        self.network: Any = SampleSimilarityLPIPS("lpips-vgg16").eval()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """d(x, y) of every pair, (B,)."""
        with torch.inference_mode():
            return self.network(to_rgb8(x).float(), to_rgb8(y).float()).double().reshape(-1)
