"""A run folder: everything about one training, in a place that explains itself.

    recipe.json     the postponed constructor calls that make model and stages
    data.json       facts of the data the model was made for
    run.json        versions, seed, command, budget; which stages are done
    metrics.jsonl   one JSON object a line; cut back to the checkpoint's position on resume
    checkpoints/    sealed folders "<order>-<stage>-<seen>", see storage.py: model, averages,
                    optimizer, state. The last two and the best are kept
    ema/            sealed folders "<stage>-<seen>": averages of the weights, to choose a length from; of
                    a stage that is done those at its end, and a single early one to guide by
    samples/        pictures drawn during training

The newest checkpoint is the valid one of highest order as its manifest states it; file times and
the order of names are never consulted. Each manifest also holds the SHA-256 of recipe.json and
data.json, so weights are never read under another description than the one they were trained with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import RefusedError, UsageError
from .lock import LOCK, lock
from .storage import JSON_LIMIT, MANIFEST, Disk, from_json, read_regular, seal, sha256, to_json, unseal

DESCRIPTION = ("recipe.json", "data.json")
OWN = (  # all that a run has in its folder but for hidden files, checkpoints last (see app/begin.py)
    *("run.json", *DESCRIPTION, "metrics.jsonl", "data-preview.png", "left-out.txt", "report.html"),
    *(
        "evaluation.json",
        "steps.json",
        "curve.json",
        "grids.json",
        "features",
        "samples",
        "ema",
        "checkpoints",
    ),
)
FOLDERS = OWN[-3:]  # which `begin` makes
OLDER = "An older checkpoint is taken where there is one; else train anew with --fresh."
SAME_FILE = "Bring back the file as it was, or train anew with --fresh."


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its folder's name, its files, and {name: why} of the newer ones that are bad."""

    name: str
    about: Mapping[str, Any]
    files: Mapping[str, bytes]
    passed_over: Mapping[str, str] = field(default_factory=dict)

    def file(self, name: str) -> bytes:
        """The bytes of one file; RefusedError if the checkpoint lacks it."""
        if name not in self.files:
            raise RefusedError(f"the checkpoint lacks {name}", where=self.name, remedy=OLDER)
        return self.files[name]


class RunDir:
    """A run folder at a path, which need not exist yet; `disk` does all the writing."""

    def __init__(self, path: Path | str, disk: Disk | None = None) -> None:
        self.path, self.disk = Path(path), disk or Disk()
        self.checkpoints, self.averages = self.path / "checkpoints", self.path / "ema"
        self.samples, self.metrics = self.path / "samples", self.path / "metrics.jsonl"
        self._unwritten = b""
        self._held = 0

    # ------------------------------------------------------------------------- description

    def refuse_foreign(self, words: Sequence[str] = ()) -> None:
        """UsageError naming what stands where a run's own would, in a folder that is none.

        A run has a checkpoint, or what `begin` makes first: the three folders, and descriptions that are JSON
        objects, run.json with these words. Nothing is changed; files under other names stay as they are.
        """
        if not self.path.is_dir():  # a file in the way is told by who writes
            return
        places = (self.checkpoints, self.averages, self.samples)
        there = self.disk.guard(self._taken, self.path, "looking into the run folder")
        begun = any(_order(n) and (self.checkpoints / n / MANIFEST).exists() for n in self.names())
        if not there or begun or (all(p.is_dir() for p in places) and self._described(words)):
            return
        more = f" and {len(there) - 3:,} more" if len(there) > 3 else ""
        raise UsageError(
            f"the folder holds what no run put there: {', '.join(there[:3])}{more}",
            where=self.path,
            remedy="Give a new folder with --out; nothing in this one was changed.",
        )

    def _taken(self) -> list[str]:
        """What is there under the names of a run's own, but for empty folders and the lock of a process."""
        there = [p for p in self.own() if not (p.name in FOLDERS and p.is_dir() and not any(p.iterdir()))]
        lock = self.path / LOCK
        if lock.is_dir() or (lock.exists() and not (lock.read_bytes()[:32].strip() or b"0").isdigit()):
            there.append(lock)
        return sorted(p.name for p in there)

    def own(self) -> list[Path]:
        """What is in the folder under the names of a run's own, in the order in which it may be moved."""
        return [p for p in (self.path / name for name in OWN) if p.exists() or p.is_symlink()]

    def shared(self) -> bool:
        """Whether files or folders of others lie beside the run's own."""
        return any(not (p.name in (*OWN, LOCK) or _is_ours(p.name)) for p in self.path.iterdir())

    def _described(self, words: Sequence[str]) -> bool:
        found: dict[str, Any] = {}
        for name in ("run.json", *DESCRIPTION):
            if (self.path / name).exists():
                try:
                    found[name] = self.read(name)
                except RefusedError:
                    return False
        objects = all(isinstance(value, dict) for value in found.values())
        return objects and "run.json" in found and set(words) <= found["run.json"].keys()

    def begin(self, recipe: Any, facts: Any, about: Mapping[str, Any]) -> bool:
        """Create the folder, or check that it holds the same recipe and data; True if it is new.

        New is also what never got as far as a checkpoint: nothing is bound to its description yet.
        UsageError lists what differs (a changed recipe is another run), or files of others. Leftovers are
        removed.
        """
        self.refuse_foreign()
        for folder in (self.checkpoints, self.averages, self.samples):
            self.disk.make(folder)
        self.clean()
        if not self.names():
            self.disk.replace(self.path / "run.json", to_json(dict(about)))
            self.disk.replace(self.path / "data.json", to_json(facts))
            self.disk.replace(self.path / "recipe.json", to_json(recipe))
            return True
        if not (self.path / "recipe.json").exists():
            raise RefusedError(
                "the run has checkpoints but no recipe.json",
                where=self.path,
                remedy="Bring the file back, or train anew with --fresh.",
            )
        for name, value in (("recipe.json", recipe), ("data.json", facts)):
            changed = differences(self.read(name), from_json(to_json(value), name))
            if changed:
                raise UsageError(
                    f"{name} of this run differs: " + "; ".join(changed[:5]),
                    where=self.path,
                    remedy="Use the same settings to go on with it, or another folder with --out.",
                )
        return False

    def read(self, name: str) -> Any:
        """The value of recipe.json, data.json or run.json."""
        path = self.path / name
        if not path.exists():
            raise RefusedError(
                f"{self.path.name or self.path} is no run folder: it has no {name}",
                where=self.path,
                remedy="Give the folder that `sfumato train` wrote.",
            )
        return from_json(read_regular(path, JSON_LIMIT), path)

    def tell(self, **changes: Any) -> None:
        """Change entries of run.json."""
        self.disk.replace(self.path / "run.json", to_json(self.read("run.json") | changes))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other processes, BusyError if one has it; may be entered again."""
        self.disk.make(self.path)
        with nullcontext() if self._held else lock(self.path):
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1

    def clean(self) -> int:
        """Remove unfinished saves; their number."""
        places = (self.path, self.checkpoints, self.averages)
        found = [p for folder in places if folder.is_dir() for p in folder.iterdir() if _is_leftover(p.name)]
        found = [p for p in found if p.parent != self.path or _is_ours(p.name)]
        for path in found:
            self.disk.drop(path)
        return len(found)

    def _identity(self) -> dict[str, str]:
        paths = [self.path / name for name in DESCRIPTION]
        return {p.name: sha256(read_regular(p, JSON_LIMIT)) for p in paths if p.exists()}

    # ------------------------------------------------------------------------- checkpoints

    def names(self) -> list[str]:
        """Folders of checkpoints by falling order; they may be damaged."""
        if not self.checkpoints.is_dir():
            return []
        entries = [p.name for p in self.checkpoints.iterdir() if not p.name.startswith(".")]
        return sorted(entries, key=_order, reverse=True)

    def next_name(self, stage: str, seen: int) -> str:
        """The name of the next checkpoint; its order is above that of every folder there is."""
        order = 1 + max((_order(name) for name in self.names()), default=0)
        return f"{order:05d}-{stage}-{seen}"

    def save(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write a checkpoint, whole or not at all. StorageError, Full if worth another try."""
        self.disk.require(self.checkpoints, 2 * sum(map(len, files.values())))
        about = {"order": _order(name), "run": self._identity()}
        seal(self.disk, self.checkpoints / name, files, about)

    def prune(self, keep: Sequence[str], last: int = 2) -> None:
        """Remove all checkpoints but the last few and those named."""
        for name in [n for n in self.names() if _order(n) > 0][last:]:
            if name not in keep:
                self.disk.remove(self.checkpoints / name)

    def set_aside(self, name: str) -> None:
        """Keep a damaged checkpoint under a name that no longer counts."""
        self.disk.rename(self.checkpoints / name, self.checkpoints / f"damaged-{name}")

    def load(self, name: str) -> Checkpoint:
        """One checkpoint, verified."""
        about, files = unseal(self.checkpoints / name)
        if about.get("order") != _order(name):
            raise RefusedError("its folder was renamed or swapped", where=name, remedy=OLDER)
        for file, digest in self._identity().items():
            if about.get("run", {}).get(file) != digest:
                raise RefusedError(
                    f"{file} is not the one this checkpoint was trained with", where=name, remedy=SAME_FILE
                )
        return Checkpoint(name, about, files)

    def newest(self) -> Checkpoint | None:
        """The valid checkpoint of highest order, None if there never was one; RefusedError if all are bad."""
        bad: dict[str, str] = {}
        for name in self.names():
            try:
                found = self.load(name)
                return Checkpoint(name, found.about, found.files, bad)
            except RefusedError as error:
                bad[name] = error.what
        if bad:
            raise RefusedError(
                "no valid checkpoint: " + "; ".join(f"{name}: {why}" for name, why in bad.items()),
                where=self.path,
                remedy="Restore the folder from a copy, or start again with --fresh (the old one is kept).",
            )
        return None

    # ------------------------------------------------------------------------- averages

    def save_averages(self, stage: str, seen: int, files: Mapping[str, bytes]) -> None:
        """Write averages of the weights at a position, replacing what an earlier session wrote there."""
        folder = self.averages / f"{stage}-{seen}"
        self.disk.require(self.averages, 2 * sum(map(len, files.values())))
        if folder.exists():
            self.disk.remove(folder)
        seal(self.disk, folder, files, {"stage": stage, "seen": seen})

    def load_averages(self, stage: str, most: int | None = None) -> dict[int, dict[str, bytes]]:
        """{seen: files} of the valid averages of a stage; of the `most` earliest positions."""
        found = {}
        for _, folder in sorted(self._averages_of(stage).items())[:most]:
            try:
                about, files = unseal(folder)
            except RefusedError:
                continue  # one of several support points: the others suffice
            if about.get("stage") == stage and isinstance(about.get("seen"), int):
                found[about["seen"]] = files
        return dict(sorted(found.items()))

    def drop_averages(self, stage: str, above: int) -> None:
        """Remove a stage's averages beyond a position (a run that goes on from there makes them anew)."""
        for seen, folder in self._averages_of(stage).items():
            if seen > above:
                self.disk.remove(folder)

    def thin_averages(self, stage: str) -> None:
        """Of a stage that is done keep only the averages at its end."""
        found = self._averages_of(stage)
        for seen, folder in found.items():
            if seen < max(found):
                self.disk.remove(folder)

    def _averages_of(self, stage: str) -> dict[int, Path]:
        folders = self.averages.glob(f"{stage}-*") if self.averages.is_dir() else ()
        numbers = {folder.name.removeprefix(f"{stage}-"): folder for folder in folders}
        return {int(n): folder for n, folder in sorted(numbers.items()) if n.isdecimal()}

    # ------------------------------------------------------------------------- metrics

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl; kept for later while the disk is full."""
        self._unwritten += json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            with self.metrics.open("ab") as file:
                start = file.tell()
                try:
                    self.disk.put(file.fileno(), self._unwritten)
                except OSError:
                    file.truncate(start)
                    raise
            self._unwritten = b""
        except OSError:
            self._unwritten = self._unwritten[-(2**20) :]

    def logged(self) -> int:
        """Bytes of metrics.jsonl, forced to the disk."""
        if not self.metrics.exists():
            return 0
        with self.metrics.open("rb") as file:
            self.disk.guard(lambda: self.disk.call(os.fsync, file.fileno()), self.metrics, "writing metrics")
        return self.metrics.stat().st_size

    def rewind(self, size: int) -> None:
        """Cut metrics.jsonl back to a position."""
        self._unwritten = b""
        if self.metrics.exists() and self.metrics.stat().st_size > size:
            self.disk.guard(lambda: os.truncate(self.metrics, size), self.metrics, "cutting back metrics")

    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl; a last line cut short is left out."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_bytes().split(b"\n")[:-1]
        return [from_json(line, self.metrics) for line in lines]


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith((".partial", ".removed"))


def _is_ours(name: str) -> bool:
    """Whether a name at the top of the folder is that of an unfinished save of a run's own."""
    stem = name.removeprefix(".").removesuffix(".partial").removesuffix(".removed")
    return _is_leftover(name) and (stem in OWN or stem.startswith("probe-"))


def _order(name: str) -> int:
    """The order (1, 2, ...) a checkpoint's name states, 0 for a name that is none of ours."""
    head = name.split("-", 1)[0]
    return int(head) if head.isascii() and head.isdigit() else 0


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two JSON values, one "place: old -> new" for each leaf."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}.{i}")]
    numbers = isinstance(old, int | float) and isinstance(new, int | float)  # 0 is 0.0, and True is not 1
    alike = type(old) is type(new) or (numbers and bool not in (type(old), type(new)))
    return [] if old == new and alike else [f"{path}: {old!r:.40} -> {new!r:.40}"]
