"""From the records of a training to its curves.

A record is one line of metrics.jsonl: {"kind": "step" | "held_out" | "probe", "stage": name, "seen": examples
of the stage so far, ...numbers}. Each stage gives, where it has the numbers: its loss in training and on
held-out images; the terms of the loss; the held-out loss at each noise level (the curve that shows progress
when the loss seems flat); other judgements; how far the averaged weights are from the raw ones; the size of
the gradient and the rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .summary import Curves, Series

LEVEL = "loss_at_log_snr_"
APART = ("loss", "norm", "rate", "lag", "skipped")  # drawn by themselves, or told in words
MOST = 300  # points of a line; more cannot be seen
SEEN = "examples seen"

Record = Mapping[str, Any]


def curves_of(records: Sequence[Record]) -> tuple[Curves, ...]:
    """All curves worth drawing, stage after stage in the order in which they began."""
    stages = dict.fromkeys(str(r["stage"]) for r in records if "stage" in r)
    several = len(stages) > 1
    found: list[Curves] = []
    for stage in stages:
        own = [r for r in records if r.get("stage") == stage]
        steps, held, probes = (
            lines([r for r in own if r.get("kind") == k]) for k in ("step", "held_out", "probe")
        )
        prefix = f"{stage}: " if several else ""
        found += [c for c in _stage(prefix, steps, held, probes) if c.series]
    return tuple(found)


def lines(records: Iterable[Record]) -> dict[str, Series]:
    """One series over examples seen for each number the records hold."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        for key, value in record.items():
            if key != "seen" and isinstance(value, (int, float)) and not isinstance(value, bool):
                x, y = points.setdefault(key, ([], []))
                x.append(float(record["seen"]))
                y.append(float(value))
    return {key: _thinned(Series(words(key), x, y)) for key, (x, y) in points.items()}


def words(key: str) -> str:
    """A number's name as it is read: reconstruction_mse becomes reconstruction mse."""
    if key.startswith(LEVEL):
        return f"log-SNR {float(key.removeprefix(LEVEL)):+.1f}"
    return key.replace("_", " ")


def _stage(
    prefix: str, steps: dict[str, Series], held: dict[str, Series], probes: dict[str, Series]
) -> list[Curves]:
    levels = sorted((k for k in held if k.startswith(LEVEL)), key=lambda k: float(k.removeprefix(LEVEL)))
    terms = [k for k in steps if k not in APART]
    both = [_named(s["loss"], name) for s, name in ((steps, "training"), (held, "held-out")) if "loss" in s]
    found = [
        Curves(f"{prefix}loss", SEEN, "loss", tuple(both)),
        Curves(
            f"{prefix}held-out loss at each noise level",
            SEEN,
            "loss",
            tuple(held[k] for k in levels),
            log_y=True,
            caption="Fixed images and fixed noise: what moves is the model. Low log-SNR is mostly noise.",
        ),
        Curves(f"{prefix}terms of the loss", SEEN, "nats or loss", tuple(steps[k] for k in terms)),
    ]
    found += [_single(prefix, "held-out ", held[k]) for k in held if k != "loss" and k not in levels]
    means = [k for k in probes if k.startswith("sample_mean_")]
    found.append(
        Curves(f"{prefix}channel means of samples", SEEN, "mean, in [-1, 1]", tuple(probes[k] for k in means))
    )
    found += [_single(prefix, "", probes[k]) for k in probes if k not in means]
    if "lag" in steps:
        lag = _named(steps["lag"], "relative distance")
        found.append(Curves(f"{prefix}averaged weights from raw ones", SEEN, "relative distance", (lag,)))
    small = tuple(steps[k] for k in ("norm",) if k in steps)
    found.append(Curves(f"{prefix}size of the gradient", SEEN, "norm", small, log_y=True))
    rate = tuple(steps[k] for k in ("rate",) if k in steps)
    return [*found, Curves(f"{prefix}learning rate", SEEN, "rate", rate)]


def _single(prefix: str, kind: str, line: Series) -> Curves:
    return Curves(f"{prefix}{kind}{line.name}", SEEN, line.name, (line,))


def _named(line: Series, name: str) -> Series:
    return Series(name, line.x, line.y, line.spread)


def _thinned(line: Series) -> Series:
    """At most MOST points, evenly chosen, the last always among them."""
    n = len(line.x)
    if n <= MOST:
        return line
    kept = sorted({round(i * (n - 1) / (MOST - 1)) for i in range(MOST)})
    return Series(line.name, [line.x[i] for i in kept], [line.y[i] for i in kept])
