"""Every constructor that a stored recipe may name, by its own name.

Names are unique, so that one flat table serves as the catalog of recipe.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..diffusion import clocks, paths, scaling, tables, times, weighting
from ..diffusion.learned import LearnedSnr
from ..diffusion.transition import InterpolatedVariance, LargeVariance, SmallVariance
from ..models import conditioner, likelihood, prior
from ..models.autoencoder import Autoencoder, tied
from ..models.autoregressive import Autoregressive, CodesAbove
from ..models.classifier import Classifier, NoisyClassifier
from ..models.codec import Pixels
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.hvae import Hvae
from ..models.reconstruction import Reconstruction, Shifted
from ..models.tdvae import TdVae
from ..models.vae import Vae
from ..models.vqvae import CodeLevel, VqVae
from ..nets import plain, shallow, units
from ..nets.detail import FineDetail
from ..nets.dit import DiT
from ..nets.ladder import BottomUp, Ladder
from ..nets.pixelcnn import PixelCnn
from ..nets.quantize import ScalarQuantizer, VectorQuantizer
from ..nets.spatial import SpatialDecoder, SpatialEncoder
from ..nets.transformer import CausalTransformer
from ..nets.unet import UNet
from ..objectives import corruption, jacobian, penalties
from ..objectives.capacity import Capacity
from ..objectives.consistency import Doubling, Easing, Mixed, SelfConsistency, Stepped
from ..objectives.continuous import Continuous
from ..objectives.cross_entropy import CrossEntropy, NoisyCrossEntropy
from ..objectives.denoising import Denoising
from ..objectives.distiller import Teaching
from ..objectives.elbo import Elbo, ImportanceWeighted
from ..objectives.likelihood import CodeLikelihood
from ..objectives.progressive import Matching, Progressive
from ..objectives.quantized import Quantized
from ..objectives.reconstruction import ReconstructionLoss
from ..objectives.shortcut import Shortcut
from ..objectives.variational import Hybrid, Vlb
from ..objectives.vdm import Vdm
from ..samplers import grids
from ..samplers.ancestral import Ancestral
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.heun import Heun
from ..samplers.langevin import AnnealedLangevin, PredictorCorrector
from ..samplers.leap import Leap
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.sde import EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun
from ..samplers.unipc import UniPC
from ..training import rates
from ..training.stage import Fit, Recipe, Stage


def parts() -> tuple[Callable[..., Any], ...]:
    """All of them, floor by floor."""
    return (*NETS, *DIFFUSION, *SAMPLERS, *MODELS, *CODES, *OBJECTIVES, *REBUILDING, *FEW_STEPS, *TRAINING)


NETS = (
    UNet,
    DiT,
    plain.MlpNet,
    plain.ConvEncoder,
    plain.ConvDecoder,
    plain.MlpEncoder,
    plain.MlpDecoder,
    shallow.LinearEncoder,
    shallow.LinearDecoder,
    units.LinearUnits,
    units.SigmoidUnits,
    units.TopUnits,
    Classifier,
    NoisyClassifier,
    BottomUp,
    Ladder,
)
DIFFUSION = (
    *(paths.VariancePreserving, paths.VarianceExploding, paths.SubVariancePreserving, paths.Linear),
    *(clocks.LinearBeta, clocks.CosineTime, clocks.LogSnrLine, clocks.geometric, clocks.FlowTime),
    *(tables.BetaTable, tables.linear_betas, tables.cosine_betas),
    *(scaling.Scaled, scaling.EpsScaling, scaling.X0Scaling, scaling.VScaling),
    *(scaling.ScoreScaling, scaling.FlowScaling, scaling.EdmScaling, scaling.ConsistencyScaling),
    *(weighting.Unweighted, weighting.Simple, weighting.Snr, weighting.MinSnr, weighting.Edm, weighting.V),
    *(weighting.Flow, weighting.Sigmoid),
    *(times.UniformTime, times.TableTime, times.LogNormalSigma, times.LogitNormalTime),
    *(SmallVariance, LargeVariance, InterpolatedVariance, LearnedSnr, FineDetail),
)
SAMPLERS = (
    *(grids.Uniform, grids.Trailing, grids.Quadratic, grids.Rows, grids.LogSnr, grids.Karras, grids.Angle),
    *(Ancestral, Consistency, Ddim, Heun, DpmPlusPlus2M, UniPC),
    *(EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun, AnnealedLangevin, PredictorCorrector),
)
MODELS = (
    *(likelihood.BernoulliLikelihood, likelihood.GaussianLikelihood),
    *(likelihood.DiscretizedGaussianLikelihood, likelihood.DiscretizedLogisticLikelihood),
    *(likelihood.LogisticMixtureLikelihood, Hvae),
    *(likelihood.FixedGaussianLikelihood, Autoencoder, tied, TdVae),
    *(Pixels, Vae, prior.StandardNormalPrior, prior.MixturePrior, Plan, Diffusion, Generator),
    *(conditioner.Unconditional, conditioner.ClassLabel, Reconstruction, Shifted),
)
CODES = (
    *(SpatialEncoder, SpatialDecoder, VectorQuantizer, ScalarQuantizer, CodeLevel, VqVae),
    *(CausalTransformer, PixelCnn, Autoregressive, CodesAbove, Quantized, CodeLikelihood),
)
OBJECTIVES = (
    *(Capacity, Elbo, ImportanceWeighted, Denoising, Hybrid, Vlb, Vdm, CrossEntropy, NoisyCrossEntropy),
)
REBUILDING = (
    *(ReconstructionLoss, corruption.Clean, corruption.Masking, corruption.GaussianCorruption),
    *(corruption.SaltAndPepper, corruption.InTurn, penalties.KlSparsity, penalties.BatchMean),
    *(penalties.RunningMean, penalties.Contraction, jacobian.OneLayerJacobian, jacobian.ExactJacobian),
    jacobian.JacobianTraceEstimate,
)
FEW_STEPS = (
    *(Teaching, SelfConsistency, Mixed, Stepped, Doubling, Easing, Continuous, Matching, Progressive),
    *(Shortcut, Leap),
)
TRAINING = (rates.Constant, rates.Cosine, rates.Cooldown, rates.InverseRoot, Stage, Fit, Recipe)
