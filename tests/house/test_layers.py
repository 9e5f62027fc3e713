"""The house: a file imports from lower floors or from its own folder, and nothing imports in a circle."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sfumato"
FLOORS = (
    {"core"},
    {"distributions", "nets", "data"},
    {"diffusion"},
    {"guidance", "samplers"},
    {"models"},
    {"objectives"},
    {"training", "evaluation"},
    {"recipes"},
    {"report", "explore"},
    {"app"},
)
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.parent != SOURCE)


def imported_modules(path: Path) -> set[str]:
    """Dotted names inside the package that a file imports, anywhere in it."""
    package = path.relative_to(SOURCE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else None
            if base is None:
                parts = (node.module or "").split(".")
                if parts[0] != "sfumato":
                    continue
                base = tuple(parts[1:])
            else:
                base = base + tuple((node.module or "").split(".") if node.module else ())
            found |= {".".join((*base, a.name)) for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("sfumato.") for a in node.names if a.name.startswith("sfumato.")}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_file_sees_only_lower_floors_and_its_own_folder(path):
    here = room_of(path)
    for module in imported_modules(path):
        there = module.split(".")[0]
        if there in FLOOR and there != here:
            assert FLOOR[there] < FLOOR[here], f"{path.name} on floor {FLOOR[here]} imports {module}"


def test_every_folder_has_a_floor():
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert rooms <= set(FLOOR)


def test_no_import_cycles():
    names = {".".join(p.relative_to(SOURCE).with_suffix("").parts): p for p in FILES}
    graph = {
        name: {
            target
            for module in imported_modules(path)
            for target in (module, module.rpartition(".")[0])
            if target in names and target != name
        }
        for name, path in names.items()
    }
    done, active = set(), []

    def visit(name):
        assert name not in active, " -> ".join([*active[active.index(name) :], name])
        if name in done:
            return
        active.append(name)
        for target in graph[name]:
            visit(target)
        active.pop()
        done.add(name)

    for name in graph:
        visit(name)
    assert done == set(graph)


def test_the_layer_check_sees_a_forbidden_import(tmp_path, monkeypatch):
    """The check can fail: a file of floor 0 that imports floor 4 is caught."""
    bad = SOURCE / "core" / "stable.py"
    text = bad.read_text(encoding="utf-8") + "\nfrom ..models import trace\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **kw: text)
    assert "models.trace" in imported_modules(bad)
