"""Inception-v3 features by torch-fidelity, for numbers that can be set beside published ones.

The 2,048 features before the last layer of the network of Szegedy et al. 2016, in the conversion of
TensorFlow's 2015 weights that torch-fidelity ships; images as 8-bit RGB, resized to 299 x 299 the way
TensorFlow 1 did it. The weights must already lie on this machine: nothing is ever downloaded, and a
file that is not exactly the published one is refused before anything reads it, because its format
could run code.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from ..core.errors import DataError, RefusedError, UsageError
from .features import Features

FILE = "weights-inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def find_weights() -> Path | None:
    """Where torch-fidelity would have left the weights, if they are there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    return path if path.is_file() else None


def verified(path: Path | None) -> Path:
    """The weights file, if it is there and is the published one to the last bit."""
    if path is None or not path.is_file():
        raise UsageError(
            "Inception features need their weights on this machine, and nothing is downloaded unasked",
            where=path or Path(torch.hub.get_dir()) / "checkpoints" / FILE,
            remedy=f"Put torch-fidelity's {FILE} there, or judge with the classifier or image statistics.",
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise RefusedError(
            f"this is not the published Inception file (SHA-256 {found[:8]}…, expected {SHA256[:8]}…)",
            where=path,
            remedy=f"Replace it by torch-fidelity's {FILE}.",
        )
    return path


def to_rgb8(x: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) in [-1, 1] as 8-bit RGB (B, 3, H, W); gray is repeated."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise DataError(
            f"Inception reads gray or RGB images, not a batch of shape {tuple(x.shape)}",
            remedy="Judge these with a classifier of your own or with image statistics.",
        )
    bytes_ = ((x + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return bytes_.expand(-1, 3, -1, -1)


@final
class InceptionFeatures(Features):
    """The 2,048 pooled features of Inception-v3."""

    name = "inception"
    dimension = 2048
    fingerprint = SHA256[:12]
    resize = "299x299 bilinear, TensorFlow 1"
    tells = (
        "Sees objects and textures of photographs, and makes numbers comparable with published ones. "
        "Knows little of medical, scientific or drawn images, and nothing of more than 8 bits or 3 channels."
    )

    def __init__(self, weights: Path | None = None) -> None:
        path = verified(weights or find_weights())
        try:
            import torch_fidelity  # noqa: F401  (its parts must not be used where the whole cannot be)
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: a torchvision of another torch
            raise UsageError(
                f"Inception features need torch-fidelity, which cannot be imported ({error})",
                remedy="pip install 'sfumato[metrics]' and a torchvision that fits your torch.",
            ) from None
        self.network = FeatureExtractorInceptionV3("inception", ["2048"], str(path)).eval()

    def __call__(self, x: Tensor) -> Tensor:
        (features,) = self.network(to_rgb8(x))
        return features.double()
