"""Floor 7: recipes: functions from the facts of a data set to a postponed model and its stages."""

from __future__ import annotations

from collections.abc import Callable

from ..training.stage import Recipe
from .classifier import classifier
from .diffusion import ddpm, diffusion
from .latent import diffusevae, vae
from .parts import parts

RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe for recipe in (vae, ddpm, diffusion, diffusevae, classifier)
}

__all__ = ["RECIPES", "classifier", "ddpm", "diffusevae", "diffusion", "parts", "vae"]
