"""The peer's side of quality.py, run by the peers' Python: azula, trained as its README shows.

    python benchmarks/quality_peer.py TRAIN.npz OUT --marks 120 300 600 [--size tiny|micro]

KarrasDenoiser on the VP schedule around its U-Net, uniform times, batches of 64, AdamW at 5e-4, gradients
clipped at 1, the average of the weights with the usual warm-up (1 - (1 + k)^(-2/3), at most 0.9999), which
azula leaves to its user. float32, as its examples. At each mark of the clock, which stands still meanwhile,
1,000 samples by 50 DDIM steps of the averaged weights.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from azula.denoise import KarrasDenoiser
from azula.nn.layers import SineEncoding
from azula.nn.unet import UNet
from azula.noise import VPSchedule
from azula.sample import DDIMSampler
from torch import nn

WIDTHS = {"tiny": (48, 96), "micro": (24, 32, 48)}


class Backbone(nn.Module):
    """Their U-Net modulated by the noise level, through a sine encoding and two layers."""

    def __init__(self, channels, widths):
        super().__init__()
        self.embed = nn.Sequential(SineEncoding(64), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64))
        self.net = UNet(
            channels, channels, hid_channels=widths, hid_blocks=(2,) * len(widths), mod_features=64
        )

    def forward(self, x, t):
        return self.net(x, self.embed(t.reshape(-1)).expand(len(x), -1))


@torch.no_grad()
def averaged(average, model, step):
    """One step of the moving average of parameters."""
    keep = min(0.9999, 1 - (1 + step) ** (-2 / 3))
    for a, b in zip(average.parameters(), model.parameters(), strict=True):
        a.lerp_(b, 1 - keep)


def sampled(model, shape, count=1000, batch=100):
    """(count, C, H, W) uint8."""
    sampler, found = DDIMSampler(model.eval(), steps=50, silent=True), []
    for _ in range(count // batch):
        with torch.inference_mode():
            x = sampler(sampler.init((batch, *shape)))
        found.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(found).numpy()


def main():
    """Train to the last mark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("out", type=Path)
    parser.add_argument("--marks", type=int, nargs="+", required=True)
    parser.add_argument("--size", choices=list(WIDTHS), default="tiny")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    images = torch.from_numpy(np.load(chosen.train)["images"])
    images = images[..., None] if images.ndim == 3 else images
    data = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    model = KarrasDenoiser(Backbone(data.shape[1], WIDTHS[chosen.size]), VPSchedule())
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    million = sum(p.numel() for p in model.parameters()) / 1e6
    clock, seen, rows, step = 0.0, 0, [], 0
    for mark in chosen.marks:
        model.train()
        while clock < mark:
            start = time.perf_counter()
            x = data[torch.randint(len(data), (64,))]
            loss = model.loss(x, torch.rand(64)).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            averaged(average, model, step)
            clock, seen = clock + time.perf_counter() - start, seen + 64
        start = time.perf_counter()
        np.save(chosen.out / f"{mark}.npy", sampled(average, data.shape[1:]))
        rate = 1000 / (time.perf_counter() - start)
        rows.append({
            "net": "azula", "seed": chosen.seed, "seconds": mark, "examples": seen,
            "parameters_M": round(million, 2), "samples_per_s": round(rate, 1),
        })  # fmt: skip
        print(rows[-1], flush=True)
    (chosen.out / "rows.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
