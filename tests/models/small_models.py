"""Small generators with random weights that are large enough to matter."""

import torch

from sfumato.diffusion.clocks import CosineTime
from sfumato.diffusion.scaling import EpsScaling, Scaled, VScaling
from sfumato.models.codec import Pixels
from sfumato.models.conditioner import ClassLabel
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.models.likelihood import GaussianLikelihood
from sfumato.models.prior import MixturePrior
from sfumato.models.reconstruction import Reconstruction, Shifted
from sfumato.models.vae import Vae
from sfumato.nets.plain import ConvDecoder, ConvEncoder
from sfumato.nets.unet import UNet
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import LogSnr

SHAPE, LATENT = (1, 8, 8), 4
PLAN = Plan(steps=4, solver=Ddim(), grid=LogSnr())


def stirred(module, seed=0, std=0.1):
    """The module with every parameter drawn from N(0, std^2): nothing is zero, nothing is symmetric."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(std * torch.randn(p.shape, generator=g))
    return module


def vae_generator(classes=0):
    """A VAE with a mixture prior."""
    vae = Vae(
        ConvEncoder(1, (8, 8), 2 * LATENT, width=8),
        ConvDecoder(LATENT, *SHAPE[:1], SHAPE[1:], width=8),
        GaussianLikelihood(),
        LATENT,
    )
    stirred(vae, 1)
    return Generator(vae, MixturePrior(LATENT, 2, classes), ClassLabel(classes) if classes else None)


def ddpm(classes=0, **slots):
    """A pixel diffusion model."""
    net = stirred(UNet(1, 2, width=16, multipliers=(1, 1), blocks=1, classes=classes, **slots))
    return Generator(
        Pixels(),
        Diffusion(Scaled(net, VScaling()), CosineTime(), SHAPE),
        ClassLabel(classes) if classes else None,
        PLAN,
    )


def diffusevae(formulation=1, give_z=False, classes=0, scaling=None):
    """DiffuseVAE on a random VAE."""
    net = stirred(
        UNet(
            1,
            2,
            width=16,
            multipliers=(1, 1),
            blocks=1,
            classes=classes,
            concat_channels=1,
            vector_dim=LATENT if give_z else 0,
        )
    )
    backbone = net if formulation == 1 else Shifted(net)
    return Generator(
        Pixels(),
        Diffusion(Scaled(backbone, scaling or EpsScaling()), CosineTime(), SHAPE),
        Reconstruction(vae_generator(classes), give_z),
        PLAN,
    )
