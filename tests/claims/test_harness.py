"""The harness of claims: what is recorded is what was measured, and what does not hold says so."""

import json
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from claims.harness import Claim, Experiment, Session, Skipped, experiments, find  # noqa: E402

from claims import __main__ as program  # noqa: E402
from claims import harness, page, sources  # noqa: E402
from sfumato.core.errors import Interrupted, UsageError  # noqa: E402

KNOWN = experiments()
DOC = """Two and two make four. It is said often.

Source: Peano 1889,
sec. 1.
Pass condition: the sum is 4.

    2 + 2 = 4
"""


class Fake(Experiment):
    """An experiment whose run is a function of the test's."""

    body = None

    def module(self):
        fake = type(sys)("fake")
        fake.run = type(self).body
        return fake


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A way to make an experiment of a function, in a checkout of its own."""
    (tmp_path / "claims").mkdir()
    for name in ("c98_other.py", "c99_fake.py"):
        (tmp_path / "claims" / name).write_text(f'"""{DOC}"""\n')
    monkeypatch.setattr(sources, "state", lambda root: "abc+")

    def make(body):
        kind = type("Made", (Fake,), {"body": staticmethod(body)})
        return kind("c99", tmp_path / "claims" / "c99_fake.py")

    return make


def run(experiment, tmp_path, **words):
    return Session(experiment, tmp_path).run(**words)


def good(claim):
    for seed in claim.seeds:
        claim.record("sum", 4.0 + seed, seed=seed, unit="apples")
    claim.record("once", float("nan"))
    claim.table("sums", [{"a": 2, "sum": 4.0}, {"a": 3, "sum": None}])
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    claim.figure("line", figure)
    plt.close(figure)
    claim.note(f"seen in {Path('/ho' + 'me/someone/deep/file.txt')}")
    claim.examples(1000)
    claim.check("the sum is 4", True)


def test_a_result_holds_what_was_measured(fake, tmp_path):
    experiment = fake(good)
    result = run(experiment, tmp_path)
    assert result == experiment.result()
    assert (result["outcome"], result["seeds"], result["examples"]) == ("holds", [0, 1, 2], [1000])
    assert [r["value"] for r in result["records"]] == [4.0, 5.0, 6.0, "nan"]
    assert result["commit"] == "abc+" and result["digest"] == experiment.digest
    assert "/" + "home" not in json.dumps(result) and "seen in file.txt" in result["notes"]
    assert (tmp_path / "docs" / "claims" / "c99-line.png").read_bytes()[1:4] == b"PNG"


def test_mean_and_spread_are_over_seeds(tmp_path):
    claim = Claim("c99", tmp_path)
    for seed, value in enumerate((1.0, 2.0, 6.0)):
        claim.record("x", value, seed=seed)
    assert (claim.values("x"), claim.mean("x")) == ([1.0, 2.0, 6.0], 3.0)
    assert claim.spread("x") == pytest.approx(7**0.5)
    with pytest.raises(ValueError, match="recorded already"):
        claim.record("x", 0.0, seed=0)
    with pytest.raises(KeyError, match="nothing is recorded"):
        claim.values("y")


def test_one_failed_check_is_a_claim_that_does_not_hold(fake, tmp_path):
    def body(claim):
        claim.check("the sum is 4", True)
        claim.check("the sum is 5", False)

    result = run(fake(body), tmp_path)
    assert result["outcome"] == "does not hold" and not result["error"]


def test_an_experiment_that_raises_failed_to_run_and_never_holds(fake, tmp_path):
    def body(claim):
        good(claim)
        raise ZeroDivisionError(f"in {Path('/ho' + 'me/someone/x.py')}")

    result = run(fake(body), tmp_path)
    assert result["figures"] == []
    assert (result["outcome"], result["error"]) == ("failed to run", "ZeroDivisionError: in x.py")


def test_an_experiment_without_checks_shows_nothing(fake, tmp_path):
    assert run(fake(lambda claim: None), tmp_path)["outcome"] == "failed to run"


def test_a_quick_run_records_nothing(fake, tmp_path):
    seen = []
    experiment = fake(lambda claim: (good(claim), seen.append((claim.seeds, claim.examples(10**6)))))
    result = run(experiment, tmp_path, quick=True)
    assert result["outcome"] == "holds" and seen == [((0,), harness.QUICK)]
    assert experiment.result() is None and not (tmp_path / "docs").exists()


def test_missing_data_skip_with_a_word_and_leave_the_record(fake, tmp_path, monkeypatch):
    experiment = fake(good)
    before = run(experiment, tmp_path)
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    with pytest.raises(Skipped, match=r"^mnist-train.parquet is not at hand; .* SFUMATO_DATA$"):
        run(fake(lambda claim: claim.data("mnist-train")), tmp_path)
    assert experiment.result() == before
    (tmp_path / "mnist-train.parquet").touch()
    assert Claim("c99", tmp_path).data("mnist-train") == str(tmp_path / "mnist-train.parquet")


def test_a_stopped_claim_keeps_its_folder_and_a_finished_one_starts_anew(fake, tmp_path):
    tries = []

    def body(claim):
        tries.append(sorted(p.name for p in claim.folder.iterdir()))
        (claim.folder / "trained").touch()
        if len(tries) == 1:
            raise Interrupted("stopped", signal=15)
        claim.check("done", True)

    with pytest.raises(Interrupted):
        run(fake(body), tmp_path)
    assert fake(body).result() is None
    run(fake(body), tmp_path)
    run(fake(body), tmp_path)
    assert tries == [[], ["spent.json", "trained"], []]


def test_a_run_is_trained_once_and_found_again(tmp_path):
    claim = Claim("c99", tmp_path, quick=True)
    words = {"examples": 10**6, "settings": {"width": 8}, "name": "narrow"}
    first, again = (claim.train("classifier", "digits", **words) for _ in range(2))
    assert first.path.name == "classifier-narrow-seed0" and first.weights.seen == harness.QUICK
    assert again.path == first.path and claim.budgets == [10**6]


def test_what_the_docstring_says_is_read(fake):
    experiment = fake(good)
    assert experiment.title == "Two and two make four"
    assert experiment.source.startswith("Peano 1889, sec. 1.")
    assert experiment.condition == "the sum is 4."
    assert experiment.statement[0] == "It is said often." and experiment.statement[-1] == "    2 + 2 = 4"


def test_the_page_is_a_function_of_what_is_recorded(fake, tmp_path):
    experiment = fake(good)
    run(experiment, tmp_path)
    known = {"c99": experiment, "c98": Fake("c98", tmp_path / "claims" / "c98_other.py")}
    once, twice = page.text(known), page.text(known)
    assert once == twice
    for words in (
        "1 run: 1 holds",
        "| 5.0 ± 1.0 apples |",
        "4.0, 5.0, 6.0",
        "| 3 | – |",
        "- c98: Two and two make four",
    ):
        assert words in once
    assert "(#c99-two-and-two-make-four)" in once and "## c99: Two and two make four" in once
    assert "![c99 line](claims/c99-line.png)" in once


def test_the_open_claims_are_those_not_recorded_as_they_stand(fake, tmp_path):
    experiment = fake(good)
    known = {"c99": experiment}
    assert program.open_ones(known, False) == [experiment]
    run(experiment, tmp_path)
    assert program.open_ones(known, False) == []
    experiment.path.write_text("changed")
    assert program.open_ones(known, False) == [experiment]


def test_an_experiment_is_all_it_is_made_of(fake, tmp_path):
    """What it imports counts, at any distance, and the harness does not; nor does what it leaves alone."""
    experiment, folder = fake(good), tmp_path / "claims"
    experiment.path.write_text("from .shared import f\nfrom .harness import Claim\n")
    for name, text in {"shared": "from . import deep\n", "deep": "", "harness": "", "alone": ""}.items():
        (folder / f"{name}.py").write_text(text)
    assert [p.name for p in sources.modules(experiment.path)] == ["c99_fake.py", "deep.py", "shared.py"]
    seen = [experiment.digest]
    for name in ("harness", "alone", "shared", "deep"):
        (folder / f"{name}.py").write_text((folder / f"{name}.py").read_text() + "x = 1\n")
        seen.append(experiment.digest)
    assert seen[0] == seen[1] == seen[2] and len(set(seen[2:])) == 3


def test_a_result_of_an_earlier_form_stands_while_its_own_file_does(fake, tmp_path):
    experiment = fake(good)
    run(experiment, tmp_path)
    (tmp_path / "claims" / "shared.py").write_text("x = 1\n")
    experiment.path.write_text(f'"""{DOC}"""\nfrom .shared import x\n')
    old = {"digest": sources.digest([experiment.path])}
    assert experiment.stands(old) and not experiment.stands(old | {"modules": []})
    assert "changed after its result, to be run again: c99" in page.text({"c99": experiment})
    assert "changed after this result" in page.section(experiment, experiment.result())
    recorded = {k: v for k, v in experiment.result().items() if k != "modules"}
    harness._write(experiment.result_path, recorded)
    assert "an earlier form" in page.text({"c99": experiment})
    assert not experiment.stands(recorded)


def test_models_of_other_source_are_not_found_again(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    (tmp_path / "src" / "deep").mkdir(parents=True)
    names = []
    for text in ("x = 1\n", "x = 2\n", "x = 1\n"):
        (tmp_path / "src" / "deep" / "a.py").write_text(text)
        names.append(harness.scratch(fake(good)))
    assert names[0] == names[2] != names[1]


def test_names_are_found_or_answered(capsys):
    known = {"c13": Experiment("c13", ROOT / "claims" / "c13_bits.py")}
    assert find("c13_bits.py", known) is known["c13"] is find("C13", known)
    with pytest.raises(UsageError, match="no claim 'c31'"):
        find("c31", known)
    assert program.main(["c00"]) == 2 and "no claim" in capsys.readouterr().err


# ------------------------------------------------------------------------------- the house rules


@pytest.mark.parametrize("experiment", KNOWN.values(), ids=list(KNOWN))
def test_every_claim_states_itself_its_source_and_its_condition(experiment):
    assert experiment.title and experiment.source and experiment.condition
    assert callable(experiment.module().run)


@pytest.mark.parametrize("name", ["c11"])
def test_a_claim_runs_quickly_and_records_nothing(name, tmp_path):
    """One that needs no training; all others by `python -m claims --quick`."""
    before = KNOWN[name].result()
    result = Session(KNOWN[name], tmp_path).run(quick=True)
    assert not result["error"] and result["checks"] and result["figures"]
    assert KNOWN[name].result() == before and not (tmp_path / "docs").exists()


def test_every_other_file_is_no_claim():
    """What claims share has a name without a number, and nothing to run."""
    for path in (ROOT / "claims").glob("*.py"):
        if path not in {e.path for e in KNOWN.values()}:
            assert re.fullmatch(r"[a-z_]+\.py", path.name), path.name
            assert "\ndef run(claim" not in path.read_text("utf-8"), path.name


def test_results_name_no_machine_and_belong_to_a_claim():
    for path in (ROOT / "claims" / "results").glob("*.json"):
        assert path.stem in KNOWN, path.name
        assert not re.search(r'[" ]/(?:\w+/)+', path.read_text("utf-8")), path.name


def test_recorded_results_stand_on_the_page():
    written = page.PAGE.read_text("utf-8") if page.PAGE.exists() else ""
    missing = [e.name for e in KNOWN.values() if (r := e.result()) and page.section(e, r) not in written]
    assert missing == [], "run `python -m claims --page`"
