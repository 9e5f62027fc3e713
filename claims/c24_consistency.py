"""A consistency model makes in one or two network calls what its teacher needs tens for. Five methods
on digits, unconditional: easy consistency tuning, consistency distillation, continuous-time consistency,
shortcut models, progressive distillation. The teacher is the recipe `diffusion`, trained on 60,000 examples;
every student was given examples for somewhat less than a third of the teacher's time, and what it took is
told. Beside them, outside the contest, consistency distillation of more and smaller steps, which takes about
as long as the teacher did.

Source: Song et al. 2023; Song & Dhariwal 2023; Geng et al. 2024; Lu & Song 2024; Frans et al. 2024.

Passes (means over three seeds; Frechet distance in the features of a classifier, 1,000 samples): of the
students whose distillation took less than a third of the teacher's time, the best at 2 calls is within 1.2
times the best of the teacher's DDIM, UniPC and DPM-Solver++(2M) at 50 calls, and below the best of them at 8;
and at 1 and at 2 calls every method is below the teacher's DDIM at the same calls.
"""

from .distilling import Lab, contest, goals

METHODS = {
    "easy": ("easy", 10_800, {}),
    "consistency": ("consistency", 4_200, {"batch": 16}),
    "continuous": ("continuous", 6_500, {}),
    "shortcut": ("shortcut", 8_500, {}),
    "progressive": ("progressive", 3_900, {"first": 16, "batch": 16}),
}
LONGER = {"consistency, longer": ("consistency", 12_000, {"batch": 8})}


def labs(claim):
    for seed in claim.seeds:
        yield Lab(
            claim,
            "digits",
            recipe="diffusion",
            examples=60_000,
            judge=20_000,
            seed=seed,
            count=1000,
            held_out=0.3,
        )


def run(claim):
    contest(claim, labs(claim), METHODS | LONGER)
    goals(claim, list(METHODS))
    for calls in (1, 2):
        worst = max(METHODS, key=lambda name: claim.mean(f"{name} at {calls}"))
        mine, ddim = claim.mean(f"{worst} at {calls}"), claim.mean(f"teacher, DDIM at {calls}")
        claim.check(f"at {calls} calls even {worst} has {mine:.3f}, DDIM {ddim:.3f}", mine < ddim)
