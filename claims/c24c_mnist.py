"""On MNIST, distillation makes a two-call model of a diffusion model; five methods are compared. Teacher:
the recipe `diffusion` on 60,000 training images, 100,000 examples; students: somewhat less than a third of
its time.

Source: Geng et al. 2024; Salimans & Ho 2022; Song et al. 2023.

Passes (one seed; Frechet distance in the features of a classifier to the test images, 1,500 samples): of the
students that took less than a third of the teacher's time, the best at 2 calls is within 1.2 times the best
of the teacher's DDIM, UniPC and DPM-Solver++(2M) at 50 calls, and below the best of them at 8.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from .distilling import Lab, contest, goals

METHODS = {
    "easy": ("easy", 23_000, {}),
    "consistency": ("consistency", 8_500, {"batch": 16}),
    "continuous": ("continuous", 6_200, {}),
    "shortcut": ("shortcut", 20_500, {}),
    "progressive": ("progressive", 7_400, {"first": 16, "batch": 16}),
}
DATA, EXAMPLES, SEEDS = "mnist", 100_000, (0,)


def labs(claim, settings=None):
    for seed in SEEDS:
        yield Lab(
            claim,
            claim.data(f"{DATA}-train"),
            recipe="diffusion",
            examples=EXAMPLES,
            judge=60_000,
            seed=seed,
            count=1500,
            settings=settings,
            test=claim.data(f"{DATA}-test"),
        )


def run(claim):
    contest(claim, labs(claim), METHODS)
    goals(claim, list(METHODS))
