"""Progressive distillation halves the steps of a diffusion model again and again, and each student beats its
teacher's DDIM at the same number of steps. Rounds 64, 32, 16, 8, 4, 2, 1 on digits, each a stage of one
recipe; the teacher is the recipe `diffusion`, trained on 60,000 examples, the rounds on 36,000 together.

Source: Salimans & Ho 2022, algorithm 2 and figure 4.

Passes: at 1, 2, 4 and 8 steps the student's Frechet distance (in the features of a classifier, 1,000 samples)
is below that of its teacher's DDIM on the same grid, in every seed; and at 4 steps it is at most 1.5 times
the teacher's at 50.
"""

from sfumato.app.student_curve import students

from .distilling import Lab, calls_figure, calls_table

CALLS = (1, 2, 4, 8)


def run(claim):
    for seed in claim.seeds:
        lab = Lab(
            claim,
            "digits",
            recipe="diffusion",
            examples=60_000,
            judge=20_000,
            seed=seed,
            count=1000,
            held_out=0.3,
        )
        student = lab.student("progressive", 36_000)
        lab.measure("student", students(student), student)
        lab.measure("teacher, DDIM", lab.teachers("ddim", (*CALLS, 50)), lab.teacher)
    names = ("student", "teacher, DDIM")
    claim.table("Fréchet distance by steps, mean and spread over seeds", calls_table(claim, names))
    claim.figure("steps", calls_figure(claim, names))
    for calls in CALLS:
        mine, theirs = (claim.values(f"{name} at {calls}") for name in names)
        claim.check(
            f"at {calls} steps the student has {claim.mean(f'student at {calls}'):.3f}, "
            f"DDIM {claim.mean(f'teacher, DDIM at {calls}'):.3f}: lower in every seed",
            all(a < b for a, b in zip(mine, theirs, strict=True)),
        )
    four, fifty = claim.mean("student at 4"), claim.mean("teacher, DDIM at 50")
    claim.check(
        f"at 4 steps {four:.3f} is at most 1.5 times the teacher's {fifty:.3f} at 50", four <= 1.5 * fifty
    )
