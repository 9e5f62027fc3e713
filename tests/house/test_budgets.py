"""Budgets that keep the code pleasant: sizes, types, documentation, no copies, nothing that runs data."""

import ast
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sfumato"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {p: ast.parse(p.read_text(encoding="utf-8")) for p in FILES}
FUNCTIONS = [
    (p, n)
    for p, tree in TREES.items()
    for n in ast.walk(tree)
    if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
]


def length(node):
    return node.end_lineno - node.lineno + 1


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def where(path, node):
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_files_are_short():
    sizes = [lines(p) for p in FILES if p.name != "__init__.py"]
    assert statistics.median(sizes) <= 150
    assert [str(p) for p in FILES if lines(p) > 400] == []


def test_functions_are_short():
    sizes = sorted(length(n) for _, n in FUNCTIONS)
    assert sizes[int(0.95 * len(sizes))] <= 40
    assert [where(p, n) for p, n in FUNCTIONS if length(n) > 80] == []


def test_files_open_with_their_theory():
    assert [str(p) for p, t in TREES.items() if not ast.get_docstring(t)] == []


def test_public_classes_and_functions_are_documented():
    missing = []
    for path, tree in TREES.items():
        for node in tree.body:
            public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(where(path, node))
    assert missing == []


def test_every_function_is_typed():
    untyped = []
    for path, node in FUNCTIONS:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        if bare or (node.returns is None and node.name != "__init__"):
            untyped.append(where(path, node))
    assert untyped == []


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "yaml", "torchvision"}


def forbidden(tree):
    """Calls and imports that would let data run code or that break installs."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_MODULES:
            found.append(node.module)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("eval", "exec", "compile", "torch.load", "torch.save", "__import__"):
            found.append(name)
        if name in ("np.load", "numpy.load"):
            safe = any(
                k.arg == "allow_pickle" and getattr(k.value, "value", 1) is False for k in node.keywords
            )
            found += [] if safe else [name]
    return found


def test_nothing_in_the_package_can_run_data():
    assert {str(p): forbidden(t) for p, t in TREES.items() if forbidden(t)} == {}


@pytest.mark.parametrize("bad", ["import pickle", "torch.load('x')", "np.load('x')", "eval('1')"])
def test_the_scan_catches_what_it_looks_for(bad):
    assert forbidden(ast.parse(bad))


WINDOW = 8


def significant(path):
    """(line number, text) of lines that count: no imports, no lone brackets, no signatures.

    Signatures of one protocol repeat by design, in solvers as in the options of the verbs.
    """
    signatures = {
        line
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef)
        for line in range(node.lineno, node.body[0].lineno)
    }
    rows = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    rows = [(i, " ".join(s.split())) for i, s in rows if i not in signatures]
    return [(i, s) for i, s in rows if len(s) > 3 and not s.startswith(("#", "import ", "from ", '"""'))]


def test_no_block_of_code_stands_twice():
    """No run of eight significant lines occurs in two places of the package."""
    seen = defaultdict(list)
    for path in FILES:
        rows = significant(path)
        for at in range(len(rows) - WINDOW + 1):
            block = tuple(s for _, s in rows[at : at + WINDOW])
            seen[block].append(f"{path.relative_to(ROOT)}:{rows[at][0]}")
    assert {k[0]: v for k, v in seen.items() if len(v) > 1} == {}


def test_tests_weigh_as_much_as_they_should():
    source = sum(lines(p) for p in FILES)
    tests = sum(lines(p) for p in (ROOT / "tests").rglob("*.py"))
    assert 0.6 <= tests / source <= 1.1


def test_every_test_file_has_a_name_of_its_own():
    """Two of one name in different folders cannot be collected by one process."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)
