"""A codebook's look-up and update against vector-quantize-pytorch's, and VQ-VAE steps against pythae's.

    $(benchmarks/peers.sh) benchmarks/codebook.py [--threads 2] [--rounds 40] [--clock wall|processor]
                                                  [--json FILE]

Look-up: 64 x 8 x 8 vectors of 64 dimensions, 512 codes, float32. One pass is what a training step asks of
the quantiser: nearest codes, embeddings with the straight-through gradient, commitment, sums, and the
update by averages (ours with k-means start and dead codes on restart, theirs with its defaults and
decay 0.99); `with backward` adds the gradient. In evaluation the look-up alone.

VQ-VAE: the same encoder and decoder (nets/spatial.py, 28 x 28 images, 7 x 7 codes) in batches of 64, a step
being forward, loss, backward and the optimizer's update; ours as the trainer can choose to compute it, plain
and fused in bfloat16, pythae's as it is (float32, averages, Adam).

Everything runs in one process and alternates, one pass each per round; the figure is the median.
Peers that are not installed are left out with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))
from step import machine

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.vqvae import CodeLevel, VqVae
from sfumato.nets.compute import Compute
from sfumato.nets.quantize import VectorQuantizer
from sfumato.nets.spatial import SpatialDecoder, SpatialEncoder
from sfumato.objectives.quantized import Quantized

CODES, DIM, SHAPE = 512, 64, (64, 64, 8, 8)
IMAGES, WIDTH = (64, 1, 28, 28), 64


class Timed:
    """A named thing to time, and its times."""

    def __init__(self, task, name, run, count):
        self.task, self.name, self.run, self.count, self.times = task, name, run, count, []

    def row(self):
        seconds = statistics.median(self.times)
        return {
            "task": self.task,
            "side": self.name,
            "ms": round(1e3 * seconds, 3),
            "per_s": round(self.count / seconds),
        }


def inputs():
    torch.manual_seed(0)
    return torch.randn(SHAPE)


def our_codebook(task):
    quantizer, z = VectorQuantizer(CODES, DIM).train(task != "evaluation"), inputs()
    quantizer.fit(z.movedim(1, -1).reshape(-1, DIM), seed=0)
    step = 0

    def run():
        nonlocal step
        if task == "evaluation":
            with torch.no_grad():
                return quantizer(z)
        step += 1
        x = z.clone().requires_grad_()
        coded = quantizer(x, Noise([step * 8 + k for k in range(8)], rows=8))
        if task == "training with backward":
            (coded.values.sum() + 0.25 * coded.commitment.sum()).backward()
        quantizer.settle(10**9)

    return run


def their_codebook(task):
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(dim=DIM, codebook_size=CODES, decay=0.99, accept_image_fmap=True)
    quantizer.train(task != "evaluation")
    z = inputs()

    def run():
        if task == "evaluation":
            with torch.no_grad():
                return quantizer(z)
        x = z.clone().requires_grad_()
        values, _, commitment = quantizer(x)
        if task == "training with backward":
            (values.sum() + 0.25 * commitment.sum()).backward()

    return run


def networks():
    torch.manual_seed(0)
    encoder = SpatialEncoder(1, 2, width=WIDTH, halvings=2)
    decoder = SpatialDecoder(1, IMAGES[2:], width=WIDTH, halvings=2)
    return encoder, decoder, torch.rand(IMAGES)


def our_model(dtype, layout, fused):
    encoder, decoder, x = networks()
    model = VqVae((CodeLevel(encoder, VectorQuantizer(CODES, DIM), 2, blocks=0),), decoder, IMAGES[2:])
    way = Compute(dtype, layout, fused)
    way.prepare(model)
    model.train()
    objective, optimizer = Quantized(), torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    batch, step = Batch(2 * x - 1, None, torch.arange(len(x))), 0

    def run():
        nonlocal step
        step += 1
        optimizer.zero_grad()
        with way.context(x.device):
            loss = objective(model, batch, noise=Noise([8 * step + k for k in range(8)], rows=8), seen=0)
        loss.total.mean().backward()
        optimizer.step()
        objective.after_step(model, 64 * step)

    return run


def their_model():
    from pythae.models import VQVAE, VQVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, net):
            super().__init__()
            self.net = nn.Sequential(net, nn.Conv2d(WIDTH, DIM, 1))

        def forward(self, x):
            return ModelOutput(embedding=self.net(x))

    class Decoder(BaseDecoder):
        def __init__(self, net):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(DIM, WIDTH, 1), net)

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z))

    encoder, decoder, x = networks()
    config = VQVAEConfig(input_dim=IMAGES[1:], latent_dim=DIM, num_embeddings=CODES, use_ema=True)
    model = VQVAE(config, Encoder(encoder), Decoder(decoder)).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run():
        optimizer.zero_grad()
        model({"data": x}).loss.backward()
        optimizer.step()

    return run


def cases():
    """Every side of every task that can be had."""
    plain, last = torch.contiguous_format, torch.channels_last
    ways = {
        "sfumato, float32": lambda: our_model(torch.float32, plain, False),
        "sfumato, bfloat16, channels last, fused": lambda: our_model(torch.bfloat16, last, True),
        "pythae": their_model,
    }
    wanted = [("VQ-VAE step", name, make, IMAGES[0]) for name, make in ways.items()]
    vectors = SHAPE[0] * SHAPE[2] * SHAPE[3]
    for task in ("training", "training with backward", "evaluation"):
        for name, make in (("sfumato", our_codebook), ("vector-quantize-pytorch", their_codebook)):
            wanted.append((f"look-up, {task}", name, lambda make=make, task=task: make(task), vectors))
    found = []
    for task, name, make, count in wanted:
        try:
            found.append(Timed(task, name, make(), count))
        except ImportError as error:
            print(f"{task}: {name} is left out: {error}", file=sys.stderr)
    return found


def measure(found, rounds, clock):
    """Alternate, one pass each per round."""
    for case in found:
        for _ in range(3):
            case.run()
    for _ in range(rounds):
        for case in found:
            start = clock()
            case.run()
            case.times.append(clock() - start)
    rows = [case.row() for case in found]
    for row in rows:
        peer = next((r for r in rows if r["task"] == row["task"] and "sfumato" not in r["side"]), None)
        row["times_the_peers_rate"] = round(peer["ms"] / row["ms"], 2) if peer else None
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    rows = measure(cases(), options.rounds, clock)
    print("| task | side | ms | per second | times the peer's rate |\n|---|---|---:|---:|---:|")
    for r in rows:
        print(f"| {r['task']} | {r['side']} | {r['ms']} | {r['per_s']:,} | {r['times_the_peers_rate']} |")
    if options.json:
        result = {
            "machine": machine(options.threads, options.clock, "cpu"),
            "rounds": options.rounds,
            "rows": rows,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
