"""What is drawn while a model trains: the same seeds again and again, from step 0 on.

A probe writes samples/STAGE-SEEN.png: in the first third of a stage the averaged weights' images beside
the raw ones (until the average has forgotten the initial weights the two differ), later the averaged
alone. It also measures the images' channel means against the data's, and says so in words when they
leave the data's spread.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL.Image import Image
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..data.facts import Facts
from ..models.autoregressive import Autoregressive
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..models.trace import LatentVariableModel
from ..models.vqvae import VqVae
from ..report import grid
from ..samplers.ddim import Ddim
from ..samplers.grids import Trailing
from ..training import watch
from ..training.probes import Finding, Moment, Probe

COUNT = 24  # images of a look: enough to see variety, few enough to cost seconds
STEPS = 20  # at most, whatever the recipe's plan is


def quick(plan: Plan) -> Plan:
    """The plan, or where it takes many steps few ones of DDIM, which needs no more for a look."""
    if plan.steps <= STEPS:
        return plan
    return replace(plan, steps=STEPS, solver=Ddim(), grid=Trailing())


def generator_at(model: nn.Module, path: str) -> Generator | None:
    """The innermost generator that holds the module at a path; None in a model that makes no images."""
    parts = path.split(".") if path else []
    for end in range(len(parts), -1, -1):
        found = model.get_submodule(".".join(parts[:end]))
        if isinstance(found, Generator):
            return found
    return None


class SampleGrid(Probe):
    """Fixed-seed samples of the stage's generator, as it stands."""

    def __init__(self, facts: Facts, seed: int = 0) -> None:
        self.facts, self.seed = facts, seed

    def look(self, moment: Moment) -> Finding:
        """Draw, write, and measure the tint."""
        generator = generator_at(moment.model, moment.on)
        if generator is None or _untrained(generator):
            return Finding()
        with moment.averaged():
            averaged = self.draw(generator)
        picture = self.picture(generator, averaged)
        if moment.seen <= moment.target / 3:
            moment.poll()
            raw = self.picture(generator, self.draw(generator))
            picture = grid.side_by_side([picture, raw], ["averaged weights", "raw weights"])
        path = moment.run.samples / f"{moment.stage}-{moment.seen:010d}.png"
        moment.run.disk.replace(path, grid.png(picture))
        mean = averaged.flatten(2).mean((0, 2)) if averaged.ndim > 2 else averaged.mean(0)
        numbers = {f"sample_mean_{c}": float(v) for c, v in enumerate(mean)}
        told = self.remarks(averaged, generator, late=moment.seen >= moment.target / 2)
        return Finding(numbers, tuple(told) if moment.seen else ())

    def draw(self, generator: Generator) -> Tensor:
        """The same images each time, up to the weights."""
        return generator.sample(
            COUNT,
            quick(generator.plan),
            labels_in_turn(generator, self.facts, COUNT),
            seeds=seeds_of(self.seed, COUNT),
        ).cpu()

    def sheet(self, generator: Generator) -> Image:
        """The images drawn, on one sheet."""
        return self.picture(generator, self.draw(generator))

    def picture(self, generator: Generator, x: Tensor) -> Image:
        """Images on one sheet, under a title if they were not drawn by the recipe's plan."""
        sheet = grid.grid(x, self.facts)
        plan = generator.plan
        if quick(plan) is plan:
            return sheet
        return grid.titled(sheet, f"a look in {STEPS} steps of DDIM (the plan: {plan.steps})")

    def remarks(self, x: Tensor, generator: Generator, *, late: bool) -> list[str]:
        """Sentences about broken or constant images at once, about tinted ones when it is late."""
        means = (x.flatten(2).mean((0, 2)) if x.ndim > 2 else x.mean(0)).tolist()
        within = x.flatten(1).std(1).tolist() if x[0].numel() > 1 else []
        between = float(x.flatten(1).std(0).mean())
        denoised = isinstance(generator.density, Diffusion)
        known = late and bool(self.facts.mean)
        tint = watch.tint(means, self.facts.mean, self.facts.std, denoised=denoised) if known else []
        return [*watch.constant(within, between), *tint]


class ReconstructionGrid(Probe):
    """Held-out images over their reconstructions, while an autoencoder trains."""

    def __init__(self, facts: Facts, held_out: Dataset, count: int = 16) -> None:
        self.facts, self.x = facts, held_out.batch(range(min(count, len(held_out)))).x

    def look(self, moment: Moment) -> Finding:
        """Encode to the posterior mean, decode, write both rows."""
        generator = generator_at(moment.model, moment.on)
        if generator is None or not len(self.x) or not _autoencoder(generator.codec, moment):
            return Finding()
        with moment.averaged(), torch.inference_mode():
            x = self.x.to(generator.density.device)
            again = generator.codec.decode(generator.codec.encode(x)).cpu()
        if self.facts.space:
            path = moment.run.samples / f"{moment.stage}-reconstruction-{moment.seen:010d}.png"
            moment.run.disk.replace(path, grid.png(grid.over(self.x, again, self.facts)))
        mse = float((again - self.x).square().mean())
        followed = generator is not moment.model or isinstance(generator.codec, VqVae)
        followed = followed and moment.seen >= moment.target
        told = self.remarks(mse, moment.stage) if followed else []
        return Finding({"reconstruction_mse": mse}, tuple(told))

    def remarks(self, mse: float, stage: str) -> list[str]:
        """At the end of a first stage: a sentence if the next one gets little from it."""
        variance = float((self.x - self.x.mean(0)).square().mean())
        return watch.hand_over(max(0.0, 1.0 - mse / variance), stage) if variance > 0 else []


def _autoencoder(codec: nn.Module, moment: Moment) -> bool:
    """Whether this stage works on an autoencoder; one of codes is left alone while its prior is trained."""
    if isinstance(codec, VqVae):
        return moment.model.get_submodule(moment.on) is codec
    return isinstance(codec, LatentVariableModel)


def _untrained(generator: Generator) -> bool:
    """Whether the prior over codes has learned nothing yet: its samples would be those of chance."""
    return isinstance(generator.density, Autoregressive) and generator.density.fresh


def labels_in_turn(generator: Generator, facts: Facts, count: int) -> Given:
    """Every class in turn, where the generator knows classes."""
    if "label" not in generator.slots or not facts.classes:
        return Given()
    return Given(label=torch.arange(count) % len(facts.classes))
