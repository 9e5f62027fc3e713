"""What `evaluate` says of discrete codes: numbers that read rightly, words, and a refusal that leads on."""

import json
import math

import numpy as np
import pytest
import torch

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.codes import in_words
from sfumato.app.console import Console
from sfumato.app.train import Budget, train
from sfumato.app.units import principal
from sfumato.core.errors import DataError, UsageError
from sfumato.evaluation.codes import LevelCodes
from sfumato.evaluation.judge import check_enough
from sfumato.evaluation.protocol import Metric
from sfumato.evaluation.spread import Estimate
from sfumato.training.watch import dead_codes


def level(used, size=32, length=16, perplexity=31.0, bits=4.98):
    return LevelCodes(size, length, used, perplexity, Estimate(bits, 0.01))


def test_use_and_cost_of_codes_are_told_in_words_beside_what_uniform_codes_cost():
    (line,) = in_words([level(1.0)], 180)
    assert line == "32 of 32 codes used; perplexity 31; 4.98 bits a code, uniform 5.00."
    first, second = in_words([level(1.0), level(0.75, size=1024, length=64)], 2000)
    assert first.startswith("Level 1 of 2: 32 of 32 codes") and second.startswith(
        "Level 2 of 2: 768 of 1,024"
    )


@pytest.mark.parametrize(("images", "judged"), [(19, False), (20, True), (2000, True)])
def test_dead_codes_are_told_where_images_choose_ten_for_each_there_is(images, judged):
    """20 images of 16 codes choose 320: ten times 32."""
    said = in_words([level(1 / 32)], images)
    assert said[1:] == (dead_codes([1 / 32], f"by {images:,} unseen images") if judged else [])
    assert in_words([level(0.5)], images)[1:] == []


def test_a_scalar_quantiser_is_not_told_to_become_one():
    ways = [in_words([level(0.25)], 2000, scalar=scalar)[1] for scalar in (False, True)]
    assert ["scalar=true" in way for way in ways] == [True, False]


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A small VQ-VAE on digits, hardly trained."""
    folder = tmp_path_factory.mktemp("coded") / "run"
    dials = {"codes": 16, "dim": 4, "width": 8, "prior_width": 16, "prior_depth": 1, "batch": 32}
    train(
        "vq-vae",
        "digits",
        out=folder,
        budget=Budget(examples=96),
        settings=dials,
        console=Console(silent=True),
        looks=1,
    )
    return folder


def test_an_evaluation_tells_the_use_of_codes_in_percent_and_in_words(coded, capsys):
    assert command(["evaluate", str(coded), "-n", "20", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    used = next(Metric.from_json(m) for m in said["metrics"] if m["name"] == "codes used")
    number = round(used.value / 100 * 16)
    assert used.unit == "%" and used.value == 100 * number / 16
    assert used.headline().startswith("codes used ") and used.headline().endswith(" ± 0 %")
    assert any(note.startswith(f"{number} of 16 codes used; perplexity") for note in said["notes"])
    cost = next(m["value"] for m in said["metrics"] if m["name"] == "bits per code")
    assert any(f"{cost:.2f} bits a code, uniform {math.log2(16):.2f}." in note for note in said["notes"])


def test_what_cannot_be_judged_is_refused_before_anything_is_drawn(coded, tmp_path, capsys):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 17, (9, 8, 8), dtype=np.uint8))
    assert command(["evaluate", str(coded), "-n", "10", "--test", str(tmp_path / "few.npy")]) == 3
    said = "".join(capsys.readouterr())
    assert "9 images are held out; judging needs 10" in said and "Drawing" not in said


@pytest.mark.parametrize(
    ("counts", "error"), [((10, 9, 10), DataError), ((9, 10, 10), DataError), ((10, 10, 9), UsageError)]
)
def test_ten_of_each_side_are_enough_to_judge(counts, error):
    check_enough(10, 10, 10)
    with pytest.raises(error):
        check_enough(*counts)


def test_a_likelihood_asked_of_codes_leads_to_the_bound_there_is(coded, capsys):
    assert command(["likelihood", str(coded), "--json"]) == 2
    refused = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "discrete codes" in refused["error"] and f"sfumato evaluate {coded}" in refused["remedy"]


def test_codes_are_traversed_along_the_directions_of_their_embeddings(coded, tmp_path, capsys):
    words = ["traverse", str(coded), "--latents", "2", "-n", "3", "--out", str(tmp_path)]
    assert command([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert list(said["spread"]) == ["0", "1"] and said["spread"]["0"] >= said["spread"]["1"] > 0
    assert (tmp_path / "traverse.png").exists()
    assert command(words) == 0
    assert "direction 1 has" in capsys.readouterr().out
    run = sfumato.open(coded)
    (near,) = run.traverse(1, 3, reach=1e-6).rows.values()
    assert np.array_equal(near[0], near[2]), "a way of no length leads nowhere"
    (far,) = run.traverse(1, 3, reach=30.0).rows.values()
    assert not np.array_equal(far[0], far[2])


def test_principal_directions_are_those_the_vectors_were_made_of():
    """Vectors m + sum_j s_j (+-1) v_j, every choice of signs once: mean m, deviations s_j, directions v_j."""
    ways = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(0)))[0][:3]
    mean, spreads = torch.arange(7.0), torch.tensor([3.0, 2.0, 0.5])
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    found = principal(mean + (signs * spreads) @ ways, 3)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.spreads, spreads)
    torch.testing.assert_close((found.ways @ ways.T).abs(), torch.eye(3), atol=1e-5, rtol=0)
    assert (found.ways.gather(1, found.ways.abs().argmax(1, keepdim=True)) > 0).all()
    assert principal(signs[:3], 8).ways.shape == (2, 3), "three points span a plane"


@pytest.mark.parametrize("count", [1, 7])
def test_vectors_that_are_all_alike_have_no_direction(count):
    """Nor does rounding make one, whatever their mean; and of those in a plane it makes no third."""
    one = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="all alike"):
        principal(one.repeat(count, 1), 8)
    plane = torch.randn(7, 2, generator=torch.Generator().manual_seed(1)) @ torch.eye(2, 64)
    assert len(principal(one + plane, 8).spreads) == 2
