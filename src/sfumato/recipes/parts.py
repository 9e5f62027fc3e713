"""Every constructor that a stored recipe may name, by its own name.

Names are unique, so that one flat table serves as the catalog of recipe.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..diffusion import clocks, paths, scaling, tables, times, weighting
from ..diffusion.transition import InterpolatedVariance, LargeVariance, SmallVariance
from ..models import conditioner, likelihood, prior
from ..models.classifier import Classifier
from ..models.codec import Pixels
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.reconstruction import Reconstruction, Shifted
from ..models.vae import Vae
from ..nets import plain
from ..nets.unet import UNet
from ..objectives.cross_entropy import CrossEntropy
from ..objectives.denoising import Denoising
from ..objectives.elbo import Elbo, ImportanceWeighted
from ..samplers import grids
from ..samplers.ancestral import Ancestral
from ..samplers.ddim import Ddim
from ..samplers.heun import Heun
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.unipc import UniPC
from ..training import rates
from ..training.stage import Fit, Recipe, Stage


def parts() -> tuple[Callable[..., Any], ...]:
    """All of them, floor by floor."""
    return (*NETS, *DIFFUSION, *SAMPLERS, *MODELS, *OBJECTIVES, *TRAINING)


NETS = (
    UNet,
    plain.MlpNet,
    plain.ConvEncoder,
    plain.ConvDecoder,
    plain.MlpEncoder,
    plain.MlpDecoder,
    Classifier,
)
DIFFUSION = (
    *(paths.VariancePreserving, paths.VarianceExploding, paths.SubVariancePreserving, paths.Linear),
    *(clocks.LinearBeta, clocks.CosineTime, clocks.LogSnrLine, clocks.geometric, clocks.FlowTime),
    *(tables.BetaTable, tables.linear_betas, tables.cosine_betas),
    *(scaling.Scaled, scaling.EpsScaling, scaling.X0Scaling, scaling.VScaling),
    *(scaling.ScoreScaling, scaling.FlowScaling, scaling.EdmScaling),
    *(weighting.Unweighted, weighting.Simple, weighting.Snr, weighting.MinSnr, weighting.Edm, weighting.V),
    *(weighting.Flow, weighting.Sigmoid),
    *(times.UniformTime, times.TableTime, times.LogNormalSigma, times.LogitNormalTime),
    *(SmallVariance, LargeVariance, InterpolatedVariance),
)
SAMPLERS = (
    *(grids.Uniform, grids.Trailing, grids.Quadratic, grids.Rows, grids.LogSnr, grids.Karras),
    *(Ancestral, Ddim, Heun, DpmPlusPlus2M, UniPC),
)
MODELS = (
    *(likelihood.BernoulliLikelihood, likelihood.GaussianLikelihood),
    *(likelihood.DiscretizedGaussianLikelihood, likelihood.DiscretizedLogisticLikelihood),
    *(Pixels, Vae, prior.StandardNormalPrior, prior.MixturePrior, Plan, Diffusion, Generator),
    *(conditioner.Unconditional, conditioner.ClassLabel, Reconstruction, Shifted),
)
OBJECTIVES = (Elbo, ImportanceWeighted, Denoising, CrossEntropy)
TRAINING = (rates.Constant, rates.Cosine, rates.Cooldown, rates.InverseRoot, Stage, Fit, Recipe)
