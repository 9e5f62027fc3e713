"""Floor 7: recipes: functions from the facts of a data set to a postponed model and its stages."""

from __future__ import annotations

from collections.abc import Callable

from ..training.stage import Recipe
from .autoencoders import ae, contractive_ae, denoising_ae, k_sparse_ae, sparse_ae
from .beta import beta_vae
from .classifier import classifier
from .codes import vq_vae, vq_vae_2
from .diffusion import ddpm, diffusion
from .hierarchical import hvae
from .latent import diffusevae, vae
from .likelihood import improved_ddpm, vdm
from .parts import parts
from .score import ncsn
from .temporal import td_vae
from .transformer import dit, jit

_FAMILIES: tuple[Callable[..., Recipe], ...] = (
    *(diffusevae, diffusion, ddpm, improved_ddpm, vdm, ncsn, dit, jit),
    *(ae, denoising_ae, sparse_ae, k_sparse_ae, contractive_ae),
    *(vae, beta_vae, hvae, vq_vae, vq_vae_2, td_vae),
    classifier,
)
RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__.replace("_", "-"): recipe for recipe in _FAMILIES
}

__all__ = [
    "RECIPES",
    "ae",
    "beta_vae",
    "classifier",
    "contractive_ae",
    "ddpm",
    "denoising_ae",
    "diffusevae",
    "diffusion",
    "dit",
    "hvae",
    "improved_ddpm",
    "jit",
    "k_sparse_ae",
    "ncsn",
    "parts",
    "sparse_ae",
    "td_vae",
    "vae",
    "vdm",
    "vq_vae",
    "vq_vae_2",
]
