"""What the KL of latents says in words: unused, empty and exploding, each with its number and remedy."""

from sfumato.training.watch import EXPLODED_NATS, UNUSED_NATS, empty_levels, exploding, latents, of_units


def test_a_ladder_is_told_of_empty_levels_only_after_half_of_the_training():
    levels = [0.0, 2.0, 3.0]
    assert empty_levels(levels, 0.4) == []
    (text,) = empty_levels(levels, 0.6)
    assert "Levels 1 of 3" in text and "at the top" in text and "free bits" in text
    assert empty_levels([1.0, 2.0, 3.0], 1.0) == []


def test_empty_levels_below_the_top_could_be_saved():
    (text,) = empty_levels([1.0, 0.5 * UNUSED_NATS, 3.0, 0.0], 1.0)
    assert "Levels 2, 4 of 4" in text and "fewer levels" in text and "top" not in text


def test_a_kl_beyond_reason_is_exploding_and_so_is_one_that_is_no_number():
    assert exploding([1.0, 0.9 * EXPLODED_NATS]) == []
    (text,) = exploding([1.0, 3 * EXPLODED_NATS])
    assert "1 of 2 latents" in text and "up to 60" in text and "warm-up" in text
    assert exploding([float("nan")])


def test_most_units_inactive_are_told_at_the_end_and_once():
    """More than a half, and below the three quarters at which a collapse says it."""
    for dead, units in ((0, 8), (4, 8), (5, 8), (6, 8), (8, 8), (1, 1), (2, 3), (0, 0)):
        kl = [0.5 * UNUSED_NATS] * dead + [1.0] * (units - dead)
        told = latents({"kl_per_unit": kl}, 1.0)
        assert told == of_units(kl, dead) and len(told) == (2 * dead > units), (dead, units)
        if told:
            assert told[0].startswith(f"{dead} of {units} latents are ")
            assert ("inactive" in told[0]) == (4 * dead < 3 * units)
            assert all(word in told[0].lower() for word in ("smaller beta", "free bits", "fewer latents"))
    few = {"kl_per_unit": [0.0] * 5 + [1.0] * 3}
    assert latents(few, 0.99) == [] and "longer warm-up" in latents(few, 1.0)[0]


def test_units_of_a_ladder_need_not_all_speak():
    """A plane of latents over a dark background is idle at most places: only its levels are judged."""
    units = [0.0] * 98 + [3.0] * 2
    assert latents({"kl_per_unit": units}, 1.0)[0].startswith("98 of 100")
    assert latents({"kl_per_unit": units, "kl_per_level": [2.0, 4.0]}, 1.0) == []
    assert latents({}, 1.0) == []
