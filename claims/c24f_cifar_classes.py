"""On 20,000 images of CIFAR-10, a class-conditional diffusion model is distilled as well as an unconditional
one. All as in C24d but that the network knows the class: teacher, methods, counts of examples, and how it is
measured, with classes as frequent among the samples as among the training images.

Source: Geng et al. 2024; Salimans & Ho 2022; Meng et al. 2023.

Passes (one seed; Frechet distance in the features of a classifier to the test images, 1,000 samples): of the
students that took less than a third of the teacher's time, the best at 2 calls is within 1.2 times the best
of the teacher's DDIM, UniPC and DPM-Solver++(2M) at 50 calls, and below the best of them at 8.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from .c24d_cifar import METHODS, labs
from .distilling import contest, goals


def run(claim):
    contest(claim, labs(claim, {"conditional": True}), METHODS)
    goals(claim, list(METHODS))
