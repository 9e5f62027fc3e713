"""On MNIST, easy tuning makes a two-call model of a diffusion model, and is compared with progressive and
with consistency distillation. Teacher: the recipe `diffusion` on 60,000 training images, 100,000 examples;
students: a third of the teacher's time or less.

Source: Geng et al. 2024; Salimans & Ho 2022; Song et al. 2023.

Passes (one seed; Frechet distance in the features of a classifier to the test images, 1,500 samples): the
best student at 2 calls is within 1.2 times the best of the teacher's DDIM, UniPC and DPM-Solver++(2M) at 50
calls, and below the best of them at 8, in less than a third of the teacher's time.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from .distilling import Lab, contest, goals

METHODS = {
    "easy": ("easy", 40_000, {}),
    "consistency": ("consistency", 16_000, {}),
    "progressive": ("progressive", 30_000, {"first": 32}),
}
DATA, EXAMPLES, SEEDS = "mnist", 100_000, (0,)


def labs(claim):
    for seed in SEEDS:
        yield Lab(
            claim,
            claim.data(f"{DATA}-train"),
            recipe="diffusion",
            examples=EXAMPLES,
            judge=60_000,
            seed=seed,
            count=1500,
            test=claim.data(f"{DATA}-test"),
        )


def run(claim):
    contest(claim, labs(claim), METHODS)
    goals(claim, list(METHODS))
