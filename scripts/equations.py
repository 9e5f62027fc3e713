"""Answer "where does equation X live?": write docs/equations.md from the docstrings of the package.

An equation is a line of a docstring that is set off by four spaces and holds a relation; its source is
the papers named in the same docstring. Run `make docs`; the suite checks that the page is current.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sfumato"
PAGE = ROOT / "docs" / "equations.md"
FLOORS = (
    *("core", "distributions", "nets", "data", "diffusion", "guidance", "samplers"),
    *("models", "objectives", "training", "evaluation"),
)
RELATION = re.compile(r"\s(=|~|<=|>=|->|<-|\+=)\s")
PAPER = re.compile(
    r"(?:(?:van|von|de|der|den) )*[A-Z][\w'’-]+(?: (?:et al\.|and|&) ?[A-Z]?[\w'’-]*)?,? "
    r"\(?(?:19|20)\d\d[a-z]?\)?"
    r"(?:, (?:eq|alg|fig|table|section|sec|appendix|app|prop|theorem|technique)s?\b\.? ?[\w.\-–()]*"
    r"(?:(?: -|,| and) \d\d?\b)*)*"
)


def documented(tree: ast.Module) -> list[tuple[str, str]]:
    """(name, docstring) of a module, its classes and their functions."""
    found = [("", ast.get_docstring(tree) or "")]

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(child)
                if text and not child.name.startswith("_"):
                    found.append((prefix + child.name, text))
                visit(child, f"{prefix}{child.name}.")

    visit(tree, "")
    return found


def equations(text: str) -> list[str]:
    """The set-off lines of a docstring that hold a relation."""
    rows = [line.rstrip() for line in text.splitlines() if line.startswith("    ")]
    return [row.strip() for row in rows if RELATION.search(f" {row.strip()} ")]


def papers(text: str) -> str:
    """The sources a docstring names, in order, each once."""
    found = (match.group(0) for match in PAPER.finditer(" ".join(text.split())))
    return "; ".join(dict.fromkeys(map(without_tail, found)))


def without_tail(source: str) -> str:
    """A source without the sentence's own full stop and the brackets that close around it."""
    while source.count(")") > source.count("(") or re.search(r"(?<!app)\.$", source):
        source = source[:-1] if source[-1] in ")." else source.replace(")", "", 1)
    return source


def page() -> str:
    """The whole page as Markdown."""
    out = [
        "# Where each equation lives",
        "",
        "Written by `make docs` from the docstrings; do not edit by hand. Floors from the bottom up.",
    ]
    for floor in FLOORS:
        rows = []
        for path in sorted((SOURCE / floor).glob("*.py")):
            for name, text in documented(ast.parse(path.read_text(encoding="utf-8"))):
                sources = papers(text)
                place = f"[`{floor}/{path.name}`](../src/sfumato/{floor}/{path.name})"
                for equation in equations(text):
                    cell = equation.replace("|", "\\|")
                    rows.append(f"| `{cell}` | {place} | {f'`{name}`' if name else 'the file'} | {sources} |")
        if rows:
            out += [
                "",
                f"## {floor}",
                "",
                "| equation | file | where | source |",
                "| --- | --- | --- | --- |",
                *rows,
            ]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        sys.exit(0 if current else "docs/equations.md is not current: run `make docs`")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
