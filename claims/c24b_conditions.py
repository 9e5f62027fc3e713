"""Few steps keep what a model is conditioned on: the class, built-in guidance, and DiffuseVAE's z. A
class-conditional model of digits, distilled with and without guidance; DiffuseVAE's refiner, distilled from
pure noise and from the first guess under noise as strong as it (`start=1`).

Source: Meng et al. 2023 (guidance built in); Pandey et al. 2022; Geng et al. 2024.

Passes (means over three seeds; Frechet distance in the features of a classifier, 1,000 samples): the
class-conditional student at 2 calls is within 1.2 times its teacher's UniPC at 50, and draws the class asked
for at least 0.97 times as often as the teacher by the judge; with guidance 2 built in as often as without,
less 0.01; DiffuseVAE refined in 2 calls is within 1.2 times its own 50; the part of the variance of its
images that z decides is at least 0.9 times the teacher's.
"""

import torch

from sfumato.app.student_curve import students
from sfumato.models.given import Given, seeds_of

from .distilling import Lab, calls_table

EXAMPLES = 24_000


def labs(claim, seed, recipe, settings=None):
    words = {"judge": 20_000, "seed": seed, "count": 1000, "held_out": 0.3, "settings": settings}
    return Lab(claim, "digits", recipe=recipe, examples=60_000, **words)


def obedience(claim, lab, run, plan=None):
    """How often the judge sees the class that was asked for."""
    count = 100 if claim.quick else 1000
    label = torch.arange(count) % 10
    x = run.generator.sample(count, plan, Given(label=label), seeds=seeds_of(7, count))
    with torch.inference_mode():
        return float((lab.judge.model(x).argmax(1) == label).float().mean())


def decided_by_z(run, plan=None, groups=24, each=8):
    """The part of the variance of images that z decides: between groups of one z each, over all."""
    generator = run.generator
    z = generator.draw(seeds_of(11, groups)).z
    x = generator.sample(
        groups * each, plan, Given(z=z.repeat_interleave(each, 0)), seeds=seeds_of(12, groups * each)
    )
    x = x.flatten(1).unflatten(0, (groups, each))
    within = x.var(1).mean()
    return float(1 - within / x.flatten(0, 1).var(0).mean())


def classes(claim, seed):
    lab = labs(claim, seed, "diffusion", {"conditional": True})
    lab.measure("conditional teacher", lab.teachers("unipc", (2, 8, 50)), lab.teacher)
    claim.record("class of the teacher", obedience(claim, lab, lab.teacher), seed=seed)
    for name, settings in (("conditional", {}), ("guided", {"guidance": 2.0})):
        student = lab.student("easy", EXAMPLES if name == "conditional" else EXAMPLES // 2, settings, name)
        lab.measure(f"{name} student", students(student), student)
        claim.record(f"class of the {name} student", obedience(claim, lab, student), seed=seed)


def refiner(claim, seed):
    lab = labs(claim, seed, "diffusevae")
    lab.measure("DiffuseVAE", lab.teachers("unipc", (2, 8, 50)), lab.teacher)
    claim.record("z of the teacher", decided_by_z(lab.teacher), seed=seed)
    for name, settings in (("refiner", {}), ("truncated", {"start": 1.0})):
        student = lab.student("easy", EXAMPLES, settings, name)
        lab.measure(f"{name} student", students(student), student)
        claim.record(f"z of the {name} student", decided_by_z(student), seed=seed)


def run(claim):
    for seed in claim.seeds:
        classes(claim, seed)
        refiner(claim, seed)
    names = ("conditional teacher", "conditional student", "guided student")
    names += ("DiffuseVAE", "refiner student", "truncated student")
    claim.table("Fréchet distance by network calls, mean and spread over seeds", calls_table(claim, names))
    two, fifty = claim.mean("conditional student at 2"), claim.mean("conditional teacher at 50")
    claim.check(
        f"class-conditional at 2 calls {two:.3f}, at most 1.2 times {fifty:.3f} at 50", two <= 1.2 * fifty
    )
    right = {n: claim.mean(f"class of the {n}") for n in ("teacher", "conditional student", "guided student")}
    plain, guided = right["conditional student"], right["guided student"]
    claim.check(
        f"the student draws the class in {plain:.3f}, the teacher in {right['teacher']:.3f}",
        plain >= 0.97 * right["teacher"],
    )
    claim.check(f"with guidance built in in {guided:.3f}", guided >= plain - 0.01)
    two, fifty = claim.mean("refiner student at 2"), claim.mean("DiffuseVAE at 50")
    claim.check(
        f"DiffuseVAE refined in 2 calls {two:.3f}, at most 1.2 times {fifty:.3f} at 50", two <= 1.2 * fifty
    )
    mine, theirs = claim.mean("z of the refiner student"), claim.mean("z of the teacher")
    claim.check(f"z decides {mine:.2f} of the variance, {theirs:.2f} in the teacher", mine >= 0.9 * theirs)
    cut, one = claim.mean("truncated student at 1"), claim.mean("refiner student at 1")
    claim.note(f"In 1 call: started from the first guess {cut:.3f}, from pure noise {one:.3f}.")
