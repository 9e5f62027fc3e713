"""Diagnosis in plain words: numbers in, sentences out.

Every function here is pure. It takes what was measured and returns the sentences a user should
read: what was seen, the number, the commonest cause, and what to try. No sentence means no finding.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ..nets.quantize import ENOUGH
from .advice import UNKNOWN, Advice, either

# a latent unit that carries less than this many nats on average is not used
UNUSED_NATS = 0.01
# a latent unit that carries more than this many nats on average has lost touch with its prior (2^28 values)
EXPLODED_NATS = 20.0
# means further from the data's than this many of its standard deviations are a tint
TINT = 0.25
V_PREDICTION = "model.density.denoiser.scaling=VScaling"
SO_FAR = f"so far, with {ENOUGH} vectors or more for each"
COLOURS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "opacity")}


def collapse(kl_per_unit: Sequence[float], advice: Advice = UNKNOWN) -> list[str]:
    """Posterior collapse: units whose KL to the prior, in nats averaged over examples, is near zero."""
    unused = sum(kl < UNUSED_NATS for kl in kl_per_unit)
    if not kl_per_unit or unused < 0.75 * len(kl_per_unit):
        return []
    fewer = advice.fewer(len(kl_per_unit) - unused, len(kl_per_unit))
    return [
        f"{unused} of {len(kl_per_unit)} latents are unused (posterior collapse: the decoder ignores them). "
        f"Try {either([*advice.speak('beta', 'free_bits'), fewer])}."
    ]


def inactive(dead: int, units: int, advice: Advice = UNKNOWN) -> list[str]:
    """More than half of a single latent's units that tell nothing of an image, short of a collapse."""
    if 2 * dead <= units:
        return []
    fewer = advice.fewer(units - dead, units).capitalize()
    return [
        f"{dead} of {units} latents are inactive: they hardly answer to the image. {fewer} would do the "
        f"same; for more active ones try {either(advice.speak('beta', 'free_bits', 'warmup'))}."
    ]


def of_units(kl_per_unit: Sequence[float], dead: int, advice: Advice = UNKNOWN) -> list[str]:
    """One sentence at most of a single latent's units, `dead` of them inactive: a collapse says it all."""
    return collapse(kl_per_unit, advice) or inactive(dead, len(kl_per_unit), advice)


def finding(text: str) -> str:
    """A sentence without its numbers: the same finding with other numbers is not news."""
    return re.sub(r"[-+]?\d[\d,.]*", "#", text)


def empty_levels(kl_per_level: Sequence[float], done: float, advice: Advice = UNKNOWN) -> list[str]:
    """Collapse of a ladder: levels, from coarse to fine, whose KL in nats is near zero.

    A ladder starts with every posterior at its prior, so nothing is said in the first half (done < 1/2).
    """
    unused = [i for i, kl in enumerate(kl_per_level, 1) if kl < UNUSED_NATS]
    if done < 0.5 or not unused:
        return []
    which = ", ".join(map(str, unused))
    if unused[0] > 1:
        return [
            f"Levels {which} of {len(kl_per_level)} carry nothing (their posterior is the prior): "
            "fewer levels would do the same, faster."
        ]
    return [
        f"Levels {which} of {len(kl_per_level)}, the coarsest too, carry nothing (posterior collapse at "
        "the top): the finer levels tell the image alone. "
        f"Try {either([*advice.speak('free_bits', 'warmup'), 'fewer levels'])}."
    ]


def exploding(kl_per_unit: Sequence[float], advice: Advice = UNKNOWN) -> list[str]:
    """Units whose KL to the prior, in nats averaged over examples, is beyond what an image can need."""
    far = [kl for kl in kl_per_unit if not kl < EXPLODED_NATS]
    if not far:
        return []
    return [
        f"{len(far)} of {len(kl_per_unit)} latents carry more than {EXPLODED_NATS:g} nats each, up to "
        f"{max(far):.0f} (exploding KL: the posterior has left the prior). Try {either(advice.calm())}."
    ]


def latents(
    notes: Mapping[str, Sequence[float]], done: float, advice: Advice = UNKNOWN, *, scalar: bool = False
) -> list[str]:
    """What an objective's notes say: kl_per_unit, kl_per_level (of a ladder), codes_used and,
    where that is not known yet, codes_used_so_far. scalar: as of `dead_codes`.

    Units that do not speak yet may still do so: short of a collapse they are told of at the end (done = 1).
    """
    units = notes.get("kl_per_unit", ())
    levels = notes.get("kl_per_level", ())
    dead = sum(kl < UNUSED_NATS for kl in units) if done >= 1.0 else 0
    silent = empty_levels(levels, done, advice) if levels else of_units(units, dead, advice)
    dying = dead_codes(notes.get("codes_used", ()), scalar=scalar)
    dying += dead_codes(notes.get("codes_used_so_far", ()), SO_FAR, scalar=scalar)
    return [*silent, *exploding(units, advice), *dying]


def dead_codes(
    used: Sequence[float], over: str = "over the last epoch", *, scalar: bool = False
) -> list[str]:
    """Collapse of a codebook: the share of each level's codes chosen, coarsest first; over: by which images.

    NaN says that nothing is known, as before the end of the first epoch, and nothing is told. scalar: whether
    the codes are scalar already, which is a way out of a codebook's collapse.
    """
    other = "" if scalar else ", or --set scalar=true, which has no codebook to collapse"
    return [
        f"Only {share:.0%} of the codes of level {number} of {len(used)} were used {over} (dead "
        f"codes). Try fewer codes (--set codes=...){other}."
        for number, share in enumerate(used, 1)
        if share < 0.5
    ]


def ema_memory(share: float, lag: float) -> list[str]:
    """An average that still remembers the beginning: the share of it that stems from weights of the
    first fifth of training, and |EMA - raw| / |raw|."""
    if share < 0.05:
        return []
    return [
        f"The averaged weights still contain {share:.0%} of the weights of the first fifth of training "
        f"(they differ from the raw ones by {lag:.0%}); their pictures lag behind. Use a shorter average."
    ]


def tint(
    sample_means: Sequence[float],
    data_means: Sequence[float],
    data_stds: Sequence[float],
    *,
    denoised: bool = True,
) -> list[str]:
    """Channel means of samples outside the spread of the data, all in model units ([-1, 1]).

    denoised: whether a diffusion model drew them, which has causes of its own to offer.
    """
    because = "The common cause is too little training."
    if denoised:
        because = (
            "Common causes: too little training (--hours), too few sampling steps (--steps), or predicting "
            f"noise at high noise, as ddpm does; there try v-prediction (--set {V_PREDICTION})."
        )
    names = COLOURS.get(len(data_means), tuple(f"channel {k}" for k in range(len(data_means))))
    sentences = []
    for name, sample, mean, std in zip(names, sample_means, data_means, data_stds, strict=True):
        shift = sample - mean
        if abs(shift) > TINT * max(std, 1e-3):
            word = "brighter" if shift > 0 else "darker"
            what = "Samples are" if name == "grey" else f"The samples' {name} is"
            sentences.append(f"{what} {word} than the data (mean {shift:+.2f}). {because}")
    return sentences


def constant(sample_stds: Sequence[float], between: float) -> list[str]:
    """Samples without content, or all alike.

    sample_stds: standard deviation within each sample; between: mean standard deviation, over the
    samples, of one value; both in model units.
    """
    if not all(map(math.isfinite, sample_stds)):
        return ["Samples hold NaN or infinity: the training has left the finite numbers, or the solver has."]
    if sample_stds and max(sample_stds) < 1e-3:
        return ["All samples are constant (one flat value): the training has failed or hardly begun."]
    if len(sample_stds) > 1 and between < 1e-3:
        return ["All samples are the same picture: the randomness does not reach the output."]
    return []


def held_out(curve: Sequence[Sequence[float]], target: int, decides: bool = True) -> list[str]:
    """What a curve of [seen, held-out loss] says: no gain for a fifth of the stage, or a rise.

    A rise is told when the last two values exceed the least by more than 2 % of the curve's range; nothing
    is told of the first quarter of a stage, where losses still move. decides: Judge.decides.
    """
    if len(curve) < 4 or curve[-1][0] < target / 4:
        return []
    losses = [loss for _, loss in curve]
    least = min(losses)
    at = next(seen for seen, loss in curve if loss == least)
    reach = max(losses) - least
    if reach <= 0:
        return ["The held-out loss does not change at all: nothing is being learned."]
    if min(losses[-2:]) > least + 0.02 * reach:
        return [
            f"The loss on held-out examples was least at {at:,.0f} examples and rises: the model begins to "
            "memorise. More data, a smaller model, dropout or a shorter training would help; "
            + (
                "the best state is kept."
                if decides
                else "samples often still get better for a while, so the training goes on: sfumato evaluate "
                "tells how many of them are copies."
            )
        ]
    recent = [loss for seen, loss in curve if seen >= curve[-1][0] - 0.2 * target]
    before = [loss for seen, loss in curve if seen < curve[-1][0] - 0.2 * target]
    if len(recent) > 1 and before and min(before) - min(recent) < 0.002 * reach:
        return [f"No visible gain on held-out examples for a fifth of the stage (since {at:,.0f} examples)."]
    return []


def hand_over(explained: float, stage: str) -> list[str]:
    """A first stage too poor to build on: fraction of the data's variance its reconstruction explains."""
    if explained >= 0.3:
        return []
    return [
        f"The first stage's reconstructions explain only {explained:.0%} of the data's variance: the second "
        f"stage gets little from it. Train it longer (--hours, or a larger share of them: "
        f"--set stages.{stage}.share=0.5) or widen its latent space."
    ]
