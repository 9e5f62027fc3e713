"""What a claim was made with: hashes of the files that decide what it finds.

experiment   its file and the modules of claims/ it imports, theirs included; not the harness, which
             hands out budgets and writes down results but measures nothing
source       every file of the package, for models trained by one state of it are not those of another
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from sfumato.app.judges import commit

RECORDER = "harness"
SHOWN = 12


def modules(path: Path) -> list[Path]:
    """The file, and after it the siblings it imports by relative imports, directly or not, by name."""
    found, waiting = {path}, [path]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                names = [node.module.partition(".")[0]] if node.module else [a.name for a in node.names]
                files = {path.with_name(f"{name}.py") for name in names if name != RECORDER}
                fresh = {file for file in files - found if file.is_file()}
                found |= fresh
                waiting += fresh
    return [path, *sorted(found - {path})]


def digest(files: Iterable[Path], folder: Path | None = None) -> str:
    """The beginning of a hash of files and, where there are several, their names below a folder.

    One file alone: the hash of its bytes, which is what results were recorded with before siblings counted.
    """
    files = list(files)
    if len(files) == 1:
        return hashlib.sha256(files[0].read_bytes()).hexdigest()[:SHOWN]
    whole = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix() if folder else file.name
        whole.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:SHOWN]


def tree(folder: Path) -> str:
    """A hash of every Python file below a folder."""
    return digest(sorted(folder.rglob("*.py")), folder)


def state(root: Path) -> str:
    """The commit, and a + where the package or the experiments differ from it."""
    here = commit()
    words = ["git", "status", "--porcelain", "--", "src", "claims", ":(exclude)claims/results"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    return here + ("+" if done.stdout.strip() or not here else "")
