"""Pages are complete in themselves, cannot be made to run anything, and hold what they were given."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.evaluation.protocol import Metric, Protocol
from sfumato.report.compare import compare_page, rankings
from sfumato.report.history import curves_of
from sfumato.report.html import run_page
from sfumato.report.markup import Markup, data_uri, join, page, policy, tag, text
from sfumato.report.plots import DARK, LIGHT, draw, draw_ranking
from sfumato.report.summary import Curves, Picture, Remark, Rows, RunSummary, Series, Step

VOID = {"meta", "img", "input", "source", "br", "hr"}
TEXT = st.text(min_size=1, max_size=20) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><b>",
        "&lt;",
        "' onload='x",
        "]]>",
    ]
)


class Reader(HTMLParser):
    """Every element with its attributes, all text, and the nesting checked."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words.append(data)


def metric(name="Frechet distance", value=12.0, spread=0.4, **changes):
    conditions = Protocol("d41d8c", "held-out", 1000, 400, "classifier@ab12")
    return Metric(name, value, spread, replace(conditions, **changes), floor=4.0, floor_spread=0.2)


def summary(word="digits", **changes):
    picture = Picture(Image.new("RGBA", (9, 7), (1, 2, 3, 255)), word, word)
    lines = Curves(word, word, word, (Series(word, [0, 1, 2], [3.0, 2.0, 1.0]),), caption=word)
    run = RunSummary(
        name=word,
        lead=word,
        facts=(Rows(word, ((word, word),)),),
        film=(picture, picture),
        pictures=(picture,),
        curves=(lines,),
        metrics=(replace(metric(), note=word, unit=word),),
        remarks=(Remark(word), Remark(word, warning=True)),
        steps=(Step(word, word),),
        created=word,
    )
    return replace(run, **changes)


def forbid(elements):
    """Nothing that runs, nothing that reaches outside the page."""
    for name, attributes in elements:
        assert name not in ("script", "iframe", "object", "embed", "link", "form", "base", "svg", "a")
        for key, value in attributes.items():
            assert not key.startswith("on") and key != "style"
            if key in ("src", "srcset", "href"):
                assert value.startswith("data:image/")


@settings(max_examples=25, deadline=None)
@given(word=TEXT)
def test_no_text_becomes_markup(word):
    """The structure of the page does not depend on any text in it, and the text comes out as it went in."""
    drawn = {"curves": ()}  # plots are images; their text is tested below
    wild, tame = Reader(run_page(summary(word, **drawn))), Reader(run_page(summary("x", **drawn)))
    assert [name for name, _ in wild.elements] == [name for name, _ in tame.elements]
    forbid(wild.elements)
    normal = word.replace("\r\n", "\n").replace("\r", "\n")
    assert sum(w.replace("\r\n", "\n").replace("\r", "\n") == normal for w in wild.words) >= 5 or "\0" in word


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT)
def test_attributes_and_children_are_escaped(a, b):
    reader = Reader(tag("p", a, class_=b))
    assert reader.elements == [("p", {"class": b.replace("\r\n", "\n")})] or "\0" in b or "\r" in b
    assert "<" not in text(a) and '"' not in text(a) and "'" not in text(a)


def test_markup_is_not_escaped_twice_and_flags_stand_bare():
    assert tag("p", tag("b", "<"), Markup("<i></i>")) == "<p><b>&lt;</b><i></i></p>"
    assert tag("input", checked=True, disabled=False, value=None) == "<input checked>"
    assert join(["<", Markup("<br>")], "&") == "&lt;&amp;<br>"


def test_the_policy_admits_the_style_sheet_and_nothing_else():
    source = run_page(summary())
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (rules,) = [a["content"] for n, a in Reader(source).elements if "http-equiv" in a]
    assert rules == policy(style) and f"'sha256-{digest}'" in rules
    assert (
        "default-src 'none'" in rules
        and "script" not in rules
        and "unsafe" not in rules
        and "http" not in rules
    )
    assert "url(" not in style and "@import" not in style


def test_pictures_are_inside_and_whole():
    source = run_page(summary())
    images = [a["src"] for n, a in Reader(source).elements if n == "img"]
    first = base64.b64decode(images[0].split(",")[1])
    assert first.startswith(b"\x89PNG") and data_uri(first, "image/png") == images[0]
    sheets = [s for s in images if s.startswith("data:image/svg+xml")]
    assert len(sheets) == 1
    day_and_night = [a for n, a in Reader(source).elements if n == "source"]
    assert day_and_night[0]["media"] == "(prefers-color-scheme: dark)"


def test_the_film_shows_the_last_moment_first_and_ids_are_unique():
    reader = Reader(compare_page([summary("a"), summary("b")]))
    radios = [a for n, a in reader.elements if n == "input"]
    assert [("checked" in a) for a in radios] == [False, True, False, True]
    ids = [a["id"] for a in radios]
    assert len(set(ids)) == 4 and {a["for"] for n, a in reader.elements if n == "label"} == set(ids)


def test_warnings_come_first_and_empty_parts_leave_no_heading():
    source = run_page(summary(remarks=(Remark("calm"), Remark("urgent", warning=True))))
    assert source.index("urgent") < source.index("calm")
    bare = run_page(RunSummary("name", "lead"))
    assert "<section>" not in bare and "name" in bare
    Reader(page("t", "p{}", "body"))


def test_shared_conditions_are_said_once_and_unlike_ones_each_time():
    alike = (metric(), metric("precision", split="train"))
    assert run_page(summary(metrics=alike)).count("data d41d8c") == 1
    unlike = (metric(), metric("precision", split="train", seed="7"))
    assert run_page(summary(metrics=unlike)).count("data d41d8c") == 2
    assert "3.00 ×" in run_page(summary(metrics=(metric(),)))


def test_rankings_rank_only_like_with_like():
    runs = [
        ("a", [metric(value=5.0)]),
        ("b", [metric(value=3.0)]),
        ("c", [metric(value=1.0, samples=50)]),
        ("d", [metric("recall", 0.5)]),
    ]
    first, second = rankings(runs)
    assert [name for name, _ in first.entries] == ["b", "a"] and first.decided
    ((name, _, reason),) = first.unlike
    assert name == "c" and "samples: 1,000 and 50" in reason
    assert [name for name, _ in second.entries] == ["d"] and not second.decided
    lines = first.lines()
    assert lines[1].startswith(" * b") and "not ranked" in lines[-1]
    assert "not ranked" in compare_page([summary(n, metrics=tuple(m)) for n, m in runs])


def test_the_best_is_named_only_where_chance_could_not_decide():
    near = rankings([("a", [metric(value=5.0, spread=1.0)]), ("b", [metric(value=4.5, spread=1.0)])])[0]
    assert not near.decided and near.lines()[1].startswith("   b")
    assert 'class="best"' not in compare_page([summary(n, metrics=(metric(value=v, spread=1.0),)) for n, v in
                                               (("a", 5.0), ("b", 4.5))])  # fmt: skip


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_drawings_are_closed_and_repeatable(theme):
    """SVG that parses, refers to nothing outside itself, holds no script, and is the same each time."""
    series = (
        Series("<script>", [1, 10, 100], [1.0, float("nan"), 0.0], [0.1, 0.1, 0.1]),
        Series("b", [1], [2.0]),
    )
    for log in (False, True):
        curves = Curves("t", "x & y", "y", series, log_x=log, log_y=log)
        drawing = draw(curves, theme)
        assert drawing == draw(curves, theme)
        for element in ElementTree.fromstring(drawing).iter():
            assert not element.tag.endswith("script")
            for key, value in element.attrib.items():
                assert not key.endswith("href") or value.startswith("#")
    names = ["one", "two"]
    for values in ((5.0, 4.0), (-1.0, 3.0), (0.1, 900.0)):
        found = [metric(value=v) for v in values]
        assert ElementTree.fromstring(draw_ranking(names, found, [0, 1], theme)).tag.endswith("svg")


@settings(max_examples=15, deadline=None)
@given(word=TEXT | st.sampled_from(["$x_{", "_hidden", "数字", "a--b", "\\frac", "%s {0}"]))
def test_any_text_can_stand_in_a_drawing(word):
    series = (Series(word, [1, 2], [1.0, 2.0]), Series(word, [1, 2], [2.0, 1.0]))
    curves = draw(Curves(word, word, word, series))
    ranking = draw_ranking([word, "b"], [replace(metric(), unit=word)] * 2, [0, 1])
    assert all(ElementTree.fromstring(drawing).tag.endswith("svg") for drawing in (curves, ranking))


def test_curves_of_a_history():
    records = [
        {"kind": "step", "stage": s, "seen": n, "loss": 1 / n, "kl": 2.0, "norm": 3.0, "lag": 0.1,
         "rate": 1e-3, "time": {"speed": 9.0}}
        for s in ("vae", "refiner") for n in range(1, 1001)
    ]  # fmt: skip
    records += [{"kind": "held_out", "stage": "refiner", "seen": n, "loss": 0.5, "loss_at_log_snr_-4.0": 1.0,
                 "loss_at_log_snr_2.5": 2.0, "accuracy": 0.9} for n in (0, 500)]  # fmt: skip
    records += [
        {"kind": "probe", "stage": "refiner", "seen": 5, "sample_mean_0": 0.1, "reconstruction_mse": 1.0}
    ]
    found = {c.title: c for c in curves_of(records)}
    both = found["refiner: loss"]
    assert [s.name for s in both.series] == ["training", "held-out"]
    assert len(both.series[0].x) == 300 and both.series[0].x[-1] == 1000 and both.series[0].x[0] == 1
    levels = found["refiner: held-out loss at each noise level"]
    assert [s.name for s in levels.series] == ["log-SNR -4.0", "log-SNR +2.5"]
    assert [s.name for s in found["vae: terms of the loss"].series] == ["kl"]
    assert {"refiner: held-out accuracy", "refiner: reconstruction mse", "vae: learning rate"} <= set(found)
    assert not any("time" in s.name or "speed" in s.name for c in found.values() for s in c.series)
    assert "vae: held-out loss at each noise level" not in found
    assert {c.title for c in curves_of([records[0]])} >= {"loss", "learning rate"} and curves_of([]) == ()
