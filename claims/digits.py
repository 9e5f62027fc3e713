"""What claims on the built-in digits share: a judge, and lines over a dial with their spread over seeds."""

from .style import colour


def judge(claim, *, examples, held_out, seed):
    """The run of a classifier of clean digits, of another seed and width than whatever it judges."""
    return claim.train(
        "classifier",
        "digits",
        examples=examples,
        held_out=held_out,
        seed=100 + seed,
        settings={"width": 24},
    ).path


def line(axes, claim, values, names, number, label):
    """Means of recorded figures over the values of a dial, bars of their spread; colour `number`."""
    axes.errorbar(
        values,
        [claim.mean(name) for name in names],
        [claim.spread(name) for name in names],
        fmt="o-",
        color=colour(number),
        lw=1.5,
        ms=4,
        capsize=2.5,
        label=label,
    )
