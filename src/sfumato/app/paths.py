"""The way from one sample to another: what `interpolate` holds and what it moves.

    z, x_T    the great circle from one to the other (models/interpolate.py)
    codes     the straight line between the embeddings of both samples' codes, quantised along the way

Of codes on several levels `Generator.draw` says those above the finest; here all of them are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..models.codec import Pixels
from ..models.density import Plan
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..models.interpolate import slerp
from ..models.vqvae import VqVae

MOVED = ("codes", "x_T", "z")  # entries of a sample between which there is a way


def ends_of(generator: Generator, plan: Plan, given: Given, seeds: Sequence[int]) -> list[Given]:
    """The samples of some seeds, all that they are made from; all have the first one's class."""
    ends: list[Given] = []
    for seed in seeds:
        known = Given(label=ends[0].label) if ends else given
        end = generator.draw(seeds_of(seed, 1), plan, known)
        if isinstance(generator.codec, VqVae):
            bare = Generator(Pixels(), generator.density, generator.conditioner, generator.plan)
            end = Given(label=end.label, codes=bare.sample(1, plan, end, seeds=seeds_of(seed, 1)))
        ends.append(end)
    return ends


def path(generator: Generator, name: str, a: Given, b: Given, count: int) -> Tensor:
    """Entry `name` from that of a to that of b, (count, ...)."""
    codec, one, two = generator.codec, getattr(a, name), getattr(b, name)
    weights = np.linspace(0.0, 1.0, count).tolist()
    if name != "codes":
        return torch.cat([slerp(one, two, w) for w in weights])
    assert isinstance(codec, VqVae)
    with torch.inference_mode():
        here, there = codec.embed(one), codec.embed(two)
        return codec.nearest(torch.cat([torch.lerp(here, there, w) for w in weights]))
