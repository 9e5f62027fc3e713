"""Which entries of a folder or an archive are pictures, and what their places say about them.

    flat        cat1.png cat2.PNG ...                         no labels
    classes     cat/... dog/...   (two or more sub-folders, no picture beside them)    label = first folder
    nested      anything else                                 no labels, with a note
    table       a CSV  file,label[,caption][,numbers ...]     labels, captions, known factors

A single folder around everything is looked through. Sub-folders called train and test are parts of a
split, not classes, and are refused with the command that was probably meant. What this program writes is no
data: run folders, the preview of the data, the sheet over a folder of samples.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..core.errors import DataError
from .decode import EXTENSIONS

_CONVERTIBLE = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".psd"}
CONVERT = "Convert them to PNG or JPEG first."
_KINDS_NAMED = 8  # notes about kinds of files that are not read; the rest is counted in one more
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
_FILE = ("file", "filename", "file_name", "image", "path", "name")
_LABEL = ("label", "class", "target")
_CAPTION = ("caption", "text", "prompt")


def is_picture(name: str) -> bool:
    """Whether the extension, in any case, is that of a format which is decoded; hidden files are none."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def tables(files: Sequence[str]) -> list[str]:
    """The files that may be a table of labels."""
    return [f for f in files if f.lower().endswith((".csv", ".tsv")) and not _is_hidden(f)]


SHEET, SHEET_OF = "grid.png", "samples.json"  # what `sample` writes beside its images
PREVIEW_NAME = "data-preview.png"  # what `doctor` writes where it is typed, and a training into its run
_OURS = (SHEET_OF, "compare.html")


def outside_runs(files: Iterable[str]) -> list[str]:
    """The files that lie in no run: a folder below this place of recipe.json and run.json or checkpoints.

    A run stands inside its data where `train` was typed there; what it draws is not what it learns from.
    """
    files = list(files)
    made = {f.removesuffix("recipe.json") for f in files if f.endswith("/recipe.json")}
    if not made:
        return files
    known = {f"{place}run.json" for place in made} & set(files)
    runs = {f.removesuffix("run.json") for f in known}
    runs |= {p for p in made - runs if any(f.startswith(f"{p}checkpoints/") for f in files)}
    below = tuple(runs)
    return [f for f in files if not f.startswith(below)] if runs else files


def in_runs(files: Collection[str], outside: Collection[str]) -> list[str]:
    """The note that pictures lie in runs (files that are not outside of them) and are left out."""
    left = pictures(sorted(set(files) - set(outside))) if len(outside) < len(files) else []
    if not left:
        return []
    told = f"{len(left):,} picture{'s lie' if len(left) > 1 else ' lies'} in runs and"
    return [f"{told} {'are' if len(left) > 1 else 'is'} left out, e.g. {left[0]}"]


def pictures(files: Sequence[str]) -> list[str]:
    """The pictures among files but for our own: previews, and sheets of samples, which show others again."""
    told = {str(PurePosixPath(f).parent) for f in files if PurePosixPath(f).name == SHEET_OF}
    own = {str(PurePosixPath(folder) / SHEET) for folder in told}
    return [f for f in files if is_picture(f) and f not in own and PurePosixPath(f).name != PREVIEW_NAME]


def undecided(found: Sequence[str]) -> list[str]:
    """The note that several tables stand where that of the labels would, so that none is taken for it."""
    if len(found) < 2:
        return []
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3:,} more" if len(found) > 3 else "")
    return [
        f"{len(found):,} tables lie here ({shown}); none is taken for labels. Name it: --labels {found[0]}"
    ]


def unread(files: Sequence[str], known: Collection[str] = ()) -> list[str]:
    """One note a suffix about what is not read, most files first: how many, and one of them by name.

    Known files are told elsewhere; hidden ones and those that this program writes are not counted.
    """
    kinds: dict[str, list[str]] = {}
    for file in files:
        if not (is_picture(file) or file in known or _is_hidden(file)):
            path = PurePosixPath(file)
            if path.name not in _OURS:
                kinds.setdefault(path.suffix.lower(), []).append(file)
    order = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
    notes = [_not_read(kind, kinds[kind]) for kind in order[:_KINDS_NAMED]]
    rest = order[_KINDS_NAMED:]
    if rest:
        count = sum(len(kinds[kind]) for kind in rest)
        notes.append(
            f"{count:,} files of {len(rest):,} more kinds are not read either: {' '.join(rest):.200}"
        )
    return notes


def _not_read(kind: str, files: Sequence[str]) -> str:
    one = len(files) == 1
    what = f"{kind} file{'' if one else 's'}" if kind else f"file{'' if one else 's'} without extension"
    said = f"{len(files):,} {what} {'is' if one else 'are'} not read{':' if one else ', e.g.'} {files[0]}"
    return f"{said}. {CONVERT}" if kind in _CONVERTIBLE else said


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sorting key by which img2 comes before img10."""
    parts = re.findall(r"\d{1,18}|\D+|\d+", name)
    return [(0, int(p), "") if p.isdecimal() and len(p) <= 18 else (1, 0, p) for p in parts], name


@dataclass
class Rows:
    """What is known about pictures by name: labels, captions, numbers."""

    labels: dict[str, str] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    factor_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, numbers in their order."""
        return tuple(sorted(set(self.labels.values()), key=natural))


def classes_from_folders(names: Sequence[str], where: str) -> Rows:
    """Labels by first sub-folder, if that is how the pictures lie."""
    paths = [PurePosixPath(n) for n in names]
    depth = 0
    while all(len(p.parts) > depth + 1 for p in paths) and len({p.parts[depth] for p in paths}) == 1:
        depth += 1  # one folder around everything
    tops = Counter(p.parts[depth] for p in paths if len(p.parts) > depth + 1)
    beside = len(paths) - sum(tops.values())
    splits = [t for t in tops if t.lower() in SPLITS]
    if len(splits) >= 2 and len(splits) == len(tops):
        train = next((s for s in splits if s.lower().startswith("train")), splits[0])
        others = ", ".join(sorted(set(splits) - {train}))
        raise DataError(
            f"the sub-folders {', '.join(sorted(splits))} are parts of a split, not classes",
            where=where,
            remedy=f"Train on {where}/{train} and give the other ({others}) with --test.",
        )
    if len(tops) < 2:
        return Rows()
    if beside:
        return Rows(
            notes=[f"{beside:,} pictures lie beside {len(tops)} sub-folders, so those are no classes"]
        )
    return Rows(labels={n: p.parts[depth] for n, p in zip(names, paths, strict=True)})


def rows_from_table(text: str, names: Iterable[str], where: str) -> Rows:
    """Labels, captions and numbers of a CSV for the pictures of these names.

    The first line names the columns (file, label, caption; any other column of numbers is a known factor) or
    is data already: file,label. Files are matched by their whole path, or by their last part if unique.
    """
    table = _cells(text, where)
    if not table:
        raise DataError(
            "the table of labels is empty", where=where, remedy="Write lines such as cat1.png,cat"
        )
    head = [cell.lower() for cell in table[0]]
    if is_picture(table[0][0]):
        head = ["file", "label"] + [f"column {i}" for i in range(3, len(head) + 1)]
    else:
        table = table[1:]
    at = {word: next((head.index(n) for n in known if n in head), None) for word, known in _COLUMNS.items()}
    if not table:
        raise DataError(
            "the table of labels has no line but its head",
            where=where,
            remedy="Write a line for each picture below it, such as cat1.png,cat",
        )
    if at["file"] is None:
        raise DataError(
            f"the table has no column with the files (its columns: {', '.join(head)})",
            where=where,
            remedy="Name the columns in the first line: file,label",
        )
    return _read_rows(table, head, at, _matcher(names), where)


_COLUMNS = {"file": _FILE, "label": _LABEL, "caption": _CAPTION}


def _read_rows(
    table: Sequence[Sequence[str]],
    head: Sequence[str],
    at: Mapping[str, int | None],
    match: Mapping[str, str],
    where: str,
) -> Rows:
    file, label, caption = at["file"] or 0, at["label"], at["caption"]
    rest = [i for i in range(len(head)) if i not in (at["file"], label, caption)]
    numeric = [i for i in rest if all(i < len(row) and _number(row[i]) is not None for row in table)]
    rows, strangers = Rows(factor_names=tuple(head[i] for i in numeric)), []
    for line, row in enumerate(table, start=2):
        if len(row) > len(head) or file >= len(row):
            raise DataError(
                f"line {line} has {len(row)} columns, the first {len(head)}",
                where=where,
                remedy='Write every line like the first, a cell that holds the delimiter in quotes: "a, b".',
            )
        name = match.get(_slashes(row[file]))
        if name is None:
            strangers.append(row[file])
            continue
        if label is not None and label < len(row) and row[label]:
            rows.labels[name] = row[label]
        if caption is not None and caption < len(row):
            rows.captions[name] = row[caption]
        rows.factors[name] = tuple(_number(row[i]) or 0.0 for i in numeric)
    if len(strangers) == len(table):
        raise DataError(
            f"none of the {len(table)} files in the table is here, e.g. '{strangers[0]}'",
            where=where,
            remedy=f"Write their names as they are here, such as {next(iter(match.values()), 'cat1.png')}",
        )
    if strangers:
        rows.notes.append(f"{len(strangers):,} lines of the table name no picture here, e.g. {strangers[0]}")
    return rows


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if value - value == 0.0 else None  # NaN and infinity are no known factors


def _slashes(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _matcher(names: Iterable[str]) -> dict[str, str]:
    """Whole path, or last part where it is unique, to name."""
    names = list(names)
    lasts = Counter(PurePosixPath(n).name for n in names)
    last = {PurePosixPath(n).name: n for n in names if lasts[PurePosixPath(n).name] == 1}
    return last | {n: n for n in names}


def _cells(text: str, where: str) -> list[list[str]]:
    """The rows of a table that hold anything, by the first delimiter that makes sense of its first row."""
    found: list[list[str]] = []
    for delimiter in ",;\t":
        try:
            rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=None), delimiter=delimiter))
        except csv.Error as error:
            raise DataError(
                f"the table of labels cannot be read: {error}",
                where=where,
                remedy="Save it as CSV, one line a picture: file,label",
            ) from None
        table = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
        found = found or table
        first = table[0] if table else []
        if len(first) > 1 and (is_picture(first[0]) or any(cell.lower() in _FILE for cell in first)):
            return table
    return found


def nothing_found(where: str, seen: Iterable[str], hint: str = "") -> DataError:
    """The error for a place without pictures: what was looked for and what was there instead."""
    counts = Counter((PurePosixPath(n).suffix.lower() or "without extension") for n in seen)
    listed = ", ".join(f"{n:,} {ext}" for ext, n in counts.most_common(6)) or "nothing"
    remedy = hint or "Put pictures there, or give the folder, .zip, .npy, .npz or .parquet that has them."
    if not hint and _CONVERTIBLE & set(counts):
        remedy = CONVERT
    looked = " ".join(EXTENSIONS)
    return DataError(f"No images in {where}. I looked for {looked} and saw {listed}.", remedy=remedy)
