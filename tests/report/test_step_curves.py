"""The curve of steps as it is drawn: every point in its line, in order, with its protocol."""

from sfumato.evaluation.protocol import Metric, Protocol
from sfumato.evaluation.steps import Point
from sfumato.report.curve import curves_of_steps
from sfumato.report.html import run_page
from sfumato.report.plots import draw
from sfumato.report.summary import RunSummary

CONDITIONS = Protocol("d41d8c", "held-out", 1000, 400, "classifier@ab12", plan="x")


def point(solver, grid, steps, value):
    metric = Metric("Frechet distance", value, 0.1, CONDITIONS, floor=0.2, floor_spread=0.01)
    return Point(solver, grid, steps, 2.0 * steps, 0.01 * steps, metric)


POINTS = [point("ddim", "karras", n, v) for n, v in ((20, 1.0), (5, 4.0), (10, 2.0))]
POINTS += [point("ddim", "optimised", 5, 2.0), point("heun", "karras", 5, 3.0)]


def test_lines_are_sorted_and_belong_to_a_way():
    calls, seconds = curves_of_steps(POINTS)
    assert [s.name for s in calls.series] == ["ddim on karras", "ddim on optimised", "heun on karras"]
    assert list(calls.series[0].x) == [10.0, 20.0, 40.0] and list(calls.series[0].y) == [4.0, 2.0, 1.0]
    assert list(seconds.series[0].x) == [0.05, 0.1, 0.2]
    assert "classifier@ab12" in calls.caption and "Real images: 0.2" in calls.caption


def test_the_page_shows_them_and_only_then():
    page = run_page(RunSummary("run", "lead", tradeoffs=curves_of_steps(POINTS)))
    assert "How many steps it needs" in page and "How many steps" not in run_page(RunSummary("run", "lead"))
    assert curves_of_steps([]) == ()
    assert draw(curves_of_steps(POINTS)[0]).startswith(b"<?xml")
