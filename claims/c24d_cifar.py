"""On 20,000 images of CIFAR-10, distillation makes a two-call model of a diffusion model; five methods are
compared. Teacher: the recipe `diffusion`, 90,000 examples; students: somewhat less than a third of its time.

Source: Geng et al. 2024 (3.60 at one and 2.11 at two calls, with all data and a large network); Salimans & Ho
2022 (8.34 at one).

Passes (one seed; Frechet distance in the features of a classifier to the test images, 1,000 samples): of the
students that took less than a third of the teacher's time, the best at 2 calls is within 1.2 times the best
of the teacher's DDIM, UniPC and DPM-Solver++(2M) at 50 calls, and below the best of them at 8.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from .distilling import Lab, contest, goals

METHODS = {
    "easy": ("easy", 20_500, {}),
    "consistency": ("consistency", 7_600, {"batch": 16}),
    "continuous": ("continuous", 5_600, {}),
    "shortcut": ("shortcut", 18_000, {}),
    "progressive": ("progressive", 6_600, {"first": 16, "batch": 16}),
}


def labs(claim, settings=None):
    yield Lab(
        claim,
        claim.data("cifar10-train"),
        recipe="diffusion",
        examples=90_000,
        judge=60_000,
        seed=0,
        count=1000,
        settings=settings,
        test=claim.data("cifar10-test"),
    )


def run(claim):
    contest(claim, labs(claim), METHODS)
    goals(claim, list(METHODS))
