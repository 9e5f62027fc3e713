"""The documents tell the truth: the index is current, printed commands parse, links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sfumato.app.cli import app
from sfumato.app.compose import compose
from sfumato.app.options import parse_set
from sfumato.data.facts import Facts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands():
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            lines = [line for line in block.splitlines() if line.startswith("sfumato ")]
            found += [(page.name, shlex.split(line, comments=True)) for line in lines]
    return found


def test_the_equation_index_is_current():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "equations.py", "--check"], capture_output=True)
    assert done.returncode == 0, "run `make docs`"


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda v: v if isinstance(v, str) else " ".join(v)
)
def test_every_printed_command_parses(page, words):
    verb = typer.main.get_command(app).commands[words[1]]
    context = verb.make_context(words[1], list(words[2:]))
    assert context.params


RGB = Facts(3, (32, 32), "uint8", 0.0, 255.0, classes=("cat", "dog"), count=200)


@pytest.mark.parametrize(
    "words", [words for _, words in commands() if words[1] == "train" and "--set" in words], ids=" ".join
)
def test_every_printed_setting_composes(words):
    values = typer.main.get_command(app).commands["train"].make_context("train", list(words[2:])).params
    assert compose(values["recipe"], RGB, parse_set(values["settings"])) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_command_is_printed_where_it_is_not_checked(page):
    assert re.findall(r"^ +sfumato .*", page.read_text(encoding="utf-8"), re.M) == []


def test_there_are_commands_to_check():
    assert len(commands()) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)]+)\)", text) if not t.startswith("http")]
    assert [t for t in targets if t and not (page.parent / t).exists()] == []


FORBIDDEN = re.compile(r"/wo" + r"rk/|/ro" + r"ot/|/tm" + r"p/|registry")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_page_names_a_machine(page):
    assert FORBIDDEN.findall(page.read_text(encoding="utf-8")) == []
