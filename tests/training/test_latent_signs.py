"""What the KL of latents says in words: unused, empty and exploding, each with its number and remedy."""

from sfumato.training.watch import EXPLODED_NATS, UNUSED_NATS, empty_levels, exploding, latents


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


def test_units_of_a_ladder_need_not_all_speak():
    """A plane of latents over a dark background is idle at most places: only its levels are judged."""
    units = [0.0] * 98 + [3.0] * 2
    assert latents({"kl_per_unit": units}, 1.0)[0].startswith("98 of 100")
    assert latents({"kl_per_unit": units, "kl_per_level": [2.0, 4.0]}, 1.0) == []
    assert latents({}, 1.0) == []
