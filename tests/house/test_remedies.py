"""An error that a user meets says what to do: every one raised in the package carries a remedy."""

import ast
from pathlib import Path

import pytest

from sfumato.core.errors import SfumatoError
from sfumato.training.storage import Full

SOURCE = Path(__file__).parents[2] / "src" / "sfumato"
ERRORS = {SfumatoError.__name__, Full.__name__, *(kind.__name__ for kind in SfumatoError.__subclasses__())}


def bare(tree):
    """Lines that construct an error of ours without a remedy, or with an empty one."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [k.value for k in node.keywords if k.arg == "remedy"]
        empty = not given or (isinstance(given[0], ast.Constant) and not given[0].value)
        if name in ERRORS and empty:
            lines.append(node.lineno)
    return lines


def test_every_error_carries_a_remedy():
    found = {p: bare(ast.parse(p.read_text(encoding="utf-8"))) for p in sorted(SOURCE.rglob("*.py"))}
    names = {p.relative_to(SOURCE).as_posix(): lines for p, lines in found.items() if lines}
    assert names == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("raise UsageError('no')", 1),
        ("raise UsageError('no', remedy='')", 1),
        ("raise errors.DataError('no', where=3)", 1),
        ("raise UsageError('no', remedy='Give 1.')", 0),
        ("raise ValueError('no')", 0),
    ],
)
def test_the_scan_catches_what_it_looks_for(text, count):
    assert len(bare(ast.parse(text))) == count
