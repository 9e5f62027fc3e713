"""VAE training end to end: our trainer against pythae's pipeline, with the same networks.

    .venv/bin/python benchmarks/vae.py --peer $(benchmarks/peers.sh) [--threads 2] [--rounds 3] [--json FILE]

The networks are ours on both sides (the plain layers of nets/plain.py: `conv`, and `mlp` with two hidden
layers as pythae's default has), 28 x 28 images of 8 bits, latent 16, batches of 128. Ours runs as `train`
does: what it finds to pay, average of the weights, checkpoints, judging on held-out images. pythae runs its
TrainingPipeline with the defaults of its configuration. A rate is examples over the seconds of the whole
call; sides alternate, each in a process of its own, and the figure is the median of the rounds. The images
are random: speed does not depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SHAPE, LATENT, BATCH = (1, 28, 28), 16, 128
EXAMPLES = {"conv": 60_000, "mlp": 300_000}
IMAGES = 10_000


def images():
    """(10,000, 28, 28) uint8."""
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *SHAPE[1:]), dtype=np.uint8)


def networks(name):
    """Postponed encoder and decoder; the encoder gives mean and log-variance."""
    from sfumato.core.lazy import lazy
    from sfumato.nets.plain import ConvDecoder, ConvEncoder, MlpDecoder, MlpEncoder

    if name == "conv":
        return lazy(ConvEncoder)(1, SHAPE[1:], 2 * LATENT), lazy(ConvDecoder)(LATENT, 1, SHAPE[1:])
    options = {"width": 512, "depth": 1}
    return lazy(MlpEncoder)(1, SHAPE[1:], 2 * LATENT, **options), lazy(MlpDecoder)(
        LATENT, 1, SHAPE[1:], **options
    )


def ours(name):
    """Seconds of a whole training in a fresh run folder."""
    from sfumato.core.lazy import build, lazy
    from sfumato.data.sources import open_data
    from sfumato.models.likelihood import DiscretizedGaussianLikelihood
    from sfumato.models.vae import Vae
    from sfumato.objectives.elbo import Elbo
    from sfumato.training.budget import Examples
    from sfumato.training.rates import Cosine
    from sfumato.training.rundir import RunDir
    from sfumato.training.stage import Recipe, Stage
    from sfumato.training.trainer import Trainer

    encoder, decoder = networks(name)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images())
        data = open_data(f"{folder}/images.npy").split()
        start = time.perf_counter()
        recipe = lazy(Recipe)(
            model=lazy(Vae)(encoder, decoder, lazy(DiscretizedGaussianLikelihood)(levels=256), LATENT),
            stages=(
                lazy(Stage)(name="vae", objective=lazy(Elbo)(), rate=lazy(Cosine)(peak=1e-3), batch=BATCH),
            ),
        )
        run = RunDir(Path(folder) / "run")
        run.begin({}, {}, {})
        Trainer(
            build(recipe), data.train, run, budget=Examples(EXAMPLES[name]), seed=0, held_out=data.held_out
        ).fit()
        return time.perf_counter() - start


def theirs(name):
    """Seconds of pythae's pipeline over as many examples; run by the peers' Python."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    from sfumato.core.lazy import build

    class Encoder(BaseEncoder):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            mean, log_var = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z))

    encoder, decoder = map(build, networks(name))
    model = VAE(VAEConfig(input_dim=SHAPE, latent_dim=LATENT), Encoder(encoder), Decoder(decoder))
    data = images()[:, None] / np.float32(255)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=EXAMPLES[name] // IMAGES, no_cuda=True, learning_rate=1e-3,
            per_device_train_batch_size=BATCH,
        )  # fmt: skip
        start = time.perf_counter()
        TrainingPipeline(model=model, training_config=config)(data)
        return time.perf_counter() - start


def alone(python, side, name, threads):
    """One side in a process of its own; its seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parent / "src")}
    command = [python, str(Path(__file__).resolve()), "--side", side, "--net", name]
    # pythae's progress bars go to standard error
    done = subprocess.run(command, env=environment, check=True, text=True, capture_output=True)
    return float(done.stdout.strip().splitlines()[-1])


def main():
    """Alternate the sides and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the Python of the peers' environment")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--net", choices=list(EXAMPLES), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print({"ours": ours, "theirs": theirs}[chosen.side](chosen.net))
        return 0
    rows = []
    for name, examples in EXAMPLES.items():
        times = {"ours": [], "theirs": []}
        for _ in range(chosen.rounds):
            times["ours"].append(alone(sys.executable, "ours", name, chosen.threads))
            if chosen.peer:
                times["theirs"].append(alone(chosen.peer, "theirs", name, chosen.threads))
        rate = {side: examples / statistics.median(found) for side, found in times.items() if found}
        row = {"net": name, **{f"{side}_per_s": round(r) for side, r in rate.items()}}
        if "theirs" in rate:
            row["ratio"] = round(rate["ours"] / rate["theirs"], 2)
        rows.append(row)
        print(row, flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps({"threads": chosen.threads, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
