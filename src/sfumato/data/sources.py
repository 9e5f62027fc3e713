"""From what the user typed to a Dataset: the one place that knows all kinds of data.

digits | shapes | swiss-roll | moving-digits        built in
a folder | .zip | .npy | .npz | .parquet (one, or a folder of them)
hub:owner/name                      fetched, only because it was typed
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError, UsageError, did_you_mean
from .arrays import open_arrays, refuse_options
from .builtin import digits, swiss_roll
from .clips import cut_into_frames, moving_digits
from .dataset import Dataset
from .facts import Facts
from .folder import Folder, files_below
from .ingest import Progress, Source, ingest
from .listing import is_picture, pictures
from .options import Options, options
from .shapes import shapes

BUILTIN: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "shapes": shapes,
    "swiss-roll": swiss_roll,
    "moving-digits": moving_digits,
}


def open_data(
    data: str | Path, *, progress: Progress | None = None, stored: bool = False, **choices: Any
) -> Dataset:
    """The data set behind a name, a path or a hub: address.

    choices are those of `options`: size, fit, alpha, channels, layout, labels, quarantine. While decoding,
    progress(stage, done, total) is called. Raises DataError (nothing usable), RefusedError (hostile or
    damaged) or UsageError. stored: the choices are those a run was made with; the ones that such data never
    heeded (layout of pictures, labels beside Parquet) are passed over, and not refused as when typed.
    """
    return _open(str(data), options(**choices), progress, stored=stored)


def open_like(data: str | Path, facts: Facts, *, progress: Progress | None = None, **choices: Any) -> Dataset:
    """Further data (held out, or one picture) in the size, channels, depth, range and classes of a run.

    choices are those the run was trained with. DataError where the data cannot be made to fit.
    """
    chosen = options(**choices)
    if len(facts.size) == 2:
        colours = facts.channels - facts.alpha
        chosen = replace(
            chosen,
            size=(facts.size[0], facts.size[1]),
            channels=colours if colours in (1, 3) else None,
            kind=facts.kind,
            transparency=facts.alpha,
        )
    name = str(data)
    return _open(name, Options() if name in BUILTIN else chosen, progress, single=True).seen_as(facts)


def _open(
    name: str, chosen: Options, progress: Progress | None, single: bool = False, stored: bool = False
) -> Dataset:
    if name in BUILTIN:
        if chosen != Options(quarantine=chosen.quarantine):
            raise UsageError(
                f"'{name}' is built in and takes no options",
                remedy="Leave --size, --fit, --alpha, --channels, --layout and --labels out.",
            )
        return BUILTIN[name]()
    if not name.startswith("hub:"):
        path = Path(name).expanduser()
        if path.suffix.lower() in (".npy", ".npz") and path.is_file():
            if not single:  # further data come with the size and depth of the first, which must fit
                refuse_options(path, chosen)
            return open_arrays(path, chosen)
    if chosen.layout is not None and not (single or stored):
        raise UsageError(
            "--layout names the axes of an array, and files of pictures have none to name",
            where=name,
            remedy="Leave --layout out.",
        )
    source = find_source(name, chosen.labels, single, stored)
    if source.frames and chosen.size is not None:
        raise UsageError("clips keep the size of their frames", where=name, remedy="Leave --size out.")
    data = ingest(source, chosen, progress)
    return cut_into_frames(data, source.frames) if source.frames else data


def find_source(data: str, labels: str | None = None, single: bool = False, stored: bool = False) -> Source:
    """The source of pictures behind a path or a hub: address, without decoding anything.

    single: further data, to which choices made for the first may not apply; stored: see `open_data`.
    """
    if data.startswith("hub:"):
        from .hub import open_hub

        _refuse_table(data, None if single or stored else labels)
        return open_hub(data.removeprefix("hub:"))
    path = Path(data).expanduser()
    if path.is_dir():
        shards = _parquet_shards(path)
        if not shards:
            return Folder(path, labels)
    elif not path.exists():
        raise _missing(data, path)
    else:
        shards = [path] if path.suffix.lower() == ".parquet" else []
    if shards:
        from .parquet import Parquet

        _refuse_table(data, None if single or stored else labels)
        return Parquet(shards, name=data)
    if path.suffix.lower() == ".zip":
        from .archive import Archive

        return Archive(path, labels)
    if is_picture(path.name):
        if single:
            return Folder(path.parent, only=path.name)
        raise DataError(
            "this is one picture; a model needs many", where=path, remedy=f"Give the folder: {path.parent}"
        )
    raise DataError(
        f"'{path.name}' is no kind of data known here",
        where=path,
        remedy="Give a folder of pictures, a .zip, .npy, .npz or .parquet file, or one of "
        + ", ".join(BUILTIN)
        + ".",
    )


def _refuse_table(data: str, labels: str | None) -> None:
    """UsageError for a table of labels beside data that bring their own."""
    if labels is not None:
        raise UsageError(
            "Parquet files hold their labels themselves, and no table is read beside them",
            where=data,
            remedy="Leave --labels out: the column 'label' is taken.",
        )


def _parquet_shards(folder: Path) -> list[Path]:
    """The Parquet files of a folder without pictures; of a folder with splits only those of train."""
    files = files_below(folder)
    shards = sorted(folder / f for f in files if f.endswith(".parquet"))
    if not shards or pictures(files):
        return []
    train = [p for p in shards if "train" in p.stem.lower()]
    return train or shards


def _missing(data: str, path: Path) -> DataError:
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    if "/" in data or "\\" in data:
        remedy = did_you_mean(path.name, beside) if beside else f"There is no folder {path.parent} either."
    else:
        remedy = did_you_mean(data, [*BUILTIN, *beside][:50])
    return DataError(f"there is no data '{data}'", remedy=remedy)
