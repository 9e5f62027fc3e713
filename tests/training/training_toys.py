"""A tiny model, objective and data set with everything a training can trip over: dropout, a buffer
that the forward pass changes, noise, labels, and an objective with a parameter of its own."""

import numpy as np
import torch
from torch import nn

from sfumato.data.loader import Dataset
from sfumato.objectives.objective import Judge, Loss, Objective, Phase
from sfumato.training.budget import Examples
from sfumato.training.events import Recorder
from sfumato.training.execution import Execution
from sfumato.training.rates import Cosine
from sfumato.training.rundir import RunDir
from sfumato.training.settings import Settings
from sfumato.training.stage import Fit, Recipe, Stage
from sfumato.training.trainer import Trainer
from sfumato.training.world import World

PLAIN = Execution()


class Toy(nn.Module):
    """A codec, a prior to fit, and a denoiser-like net, as named parts."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.codec = Linear(4, 2)
            self.prior = Moments(2)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.SiLU(), nn.Linear(8, 4))
        self.register_buffer("calls", torch.zeros(()))


class Linear(nn.Module):
    def __init__(self, wide, narrow):
        super().__init__()
        self.down, self.up = nn.Linear(wide, narrow), nn.Linear(narrow, wide)
        self.register_buffer("calls", torch.zeros(()))

    def encode(self, x, *, noise=None):
        z = self.down(x)
        return z if noise is None else z + 0.1 * noise.normal(z.shape)

    def decode(self, z):
        if self.training:
            self.calls += 1
        return self.up(z)


class Moments(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def fit(self, z, label, *, seed):
        self.mean.copy_(z.mean(0))
        self.seed.fill_(seed)


class Autoencode(Objective):
    """Squared error of a noisy round trip, with a scale the objective owns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, model, batch, *, noise, seen):
        z = model.encode(batch.x, noise=noise)
        error = (self.scale * model.decode(z) - batch.x).square().flatten(1).sum(1)
        return Loss({"error": error, "size": z.square().sum(1)}, {"error": 1.0, "size": 0.01})


class Denoise(Objective, Judge):
    """Predicts x from x plus noise."""

    def forward(self, model, batch, *, noise, seen):
        x_t = batch.x + noise.normal(batch.x.shape)
        error = (model.net(x_t) - batch.x).square().flatten(1).sum(1)
        return Loss({"error": error}, {"error": 1.0}, {"kl_per_unit": torch.ones(2)})

    def judge(self, model, batch, *, noise):
        x_t = batch.x + noise.normal(batch.x.shape)
        return {"loss": (model.net(x_t) - batch.x).square().flatten(1).sum(1)}


class Adversarial(Objective):
    """Two turns: a critic that tells x from noise, then the net against it."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.critic = nn.Linear(4, 1)

    def phases(self, model, trained):
        return (Phase("critic", self.judge_both, (self.critic,)), Phase("net", self.forward, (trained,)))

    def judge_both(self, model, batch, *, noise, seen):
        made = model.net(noise.normal(batch.x.shape)).detach()
        value = nn.functional.softplus(-self.critic(batch.x)) + nn.functional.softplus(self.critic(made))
        return Loss({"critic": value[:, 0]}, {"critic": 1.0})

    def forward(self, model, batch, *, noise, seen):
        made = model.net(noise.normal(batch.x.shape))
        return Loss({"net": nn.functional.softplus(-self.critic(made))[:, 0]}, {"net": 1.0})


def points(count=50, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 4)) * (1, 0.5, 0.2, 0.1)
    return Dataset.of(values.astype(np.float32), layout="NC")


def recipe(batch=8, **changes):
    """Two gradient stages and a closed-form one between them."""
    rate = Cosine(peak=1e-2, warmup=16)
    return Recipe(
        Toy(),
        (
            Stage("first", Autoencode(), on="codec", rate=rate, batch=batch, share=0.4, **changes),
            Fit("prior", on="prior", through="codec", examples=30),
            Stage("second", Denoise(), train="net", rate=rate, batch=batch, share=0.6, **changes),
        ),
    )


def single(objective=None, batch=8, **changes):
    """One gradient stage on the whole toy."""
    stage = Stage(
        "only", objective or Denoise(), train="net", rate=Cosine(1e-2, warmup=16), batch=batch, **changes
    )
    return Recipe(Toy(), (stage,))


def trainer(
    path,
    made=None,
    *,
    examples=160,
    count=50,
    data=None,
    seed=0,
    disk=None,
    held_out=None,
    probes=(),
    budget=None,
    **settings,
):
    """A trainer in a run folder that has been begun, and its recorder as `.reporter`."""
    run = RunDir(path, disk)
    run.begin({"recipe": "toy"}, {"facts": "toy"}, {"seed": seed})
    settings = {"execution": PLAIN, "save_minutes": 1e9, "first_minutes": 1e9} | settings
    return Trainer(
        made or recipe(),
        data or points(count),
        run,
        budget=budget or Examples(examples),
        seed=seed,
        held_out=held_out,
        probes=probes,
        reporter=Recorder(),
        world=World(),
        settings=Settings(**settings),
    )


def notes(trainer):
    return [e.text for e in trainer.reporter.events if hasattr(e, "text")]


def final(path):
    """What must agree between two runs: all tensors and the state but its clock, and the losses."""
    from sfumato.training.state import Progress
    from sfumato.training.storage import from_json

    run = RunDir(path)
    found = run.newest()
    state = from_json(found.files["state.json"], "state")
    for clock in ("elapsed", "metrics", "best"):
        state.pop(clock)
    assert Progress.from_bytes(found.files["state.json"], "state")
    files = {name: data for name, data in found.files.items() if name != "state.json"}
    averages = {
        folder.name: sorted(p.read_bytes() for p in folder.glob("*.safetensors"))
        for folder in run.averages.iterdir()
    }
    lines = [{k: v for k, v in line.items() if k != "time"} for line in run.history()]
    return files, state, averages, lines
