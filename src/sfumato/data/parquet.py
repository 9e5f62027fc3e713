"""Pictures in Parquet files, in the image layout of Hugging Face `datasets`.

    image     struct {bytes, path}, or plain bytes                 encoded pictures
    label     integers with names in the schema's metadata (ClassLabel), or words
    caption   words
    n_frames  integers, one number for all: pictures are clips, their frames side by side from left to right

The schema's metadata, key "huggingface", says which column is what: {"info": {"features": {...}}}. Without
it the columns are known by their types and names. A row that holds only a path is counted as bad: paths out
of a file are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RefusedError, UsageError
from .ingest import Source
from .listing import natural
from .pool import Item

ROWS = 256


def need_pyarrow() -> Any:
    """pyarrow.parquet, or the sentence that says how to get it."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(
            "reading Parquet needs pyarrow", remedy="Install it: pip install 'sfumato[parquet]'"
        ) from None
    return parquet


class Parquet(Source):
    """The pictures of one or more Parquet files of the same layout, row by row."""

    def __init__(self, paths: Sequence[Path], name: str = "") -> None:
        self._parquet = need_pyarrow()
        self.paths = sorted(paths, key=lambda p: natural(p.name))
        self.name = name or str(self.paths[0])
        with self._refusing():
            files = [self._parquet.ParquetFile(p) for p in self.paths]
            self._count = sum(f.metadata.num_rows for f in files)
            self.columns = Columns(files[0].schema_arrow, self.name)
        self.classes = self.columns.classes or self._words_of_labels()
        if self._count == 0:
            raise DataError("the Parquet file has no rows", where=self.name, remedy="Give a file with rows.")
        self.frames = self._frames()

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Whatever pyarrow raises on a damaged file, as RefusedError; its errors derive from these two."""
        try:
            yield
        except (OSError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise RefusedError(
                f"not a whole Parquet file: {first}", where=self.name, remedy="Fetch or write it anew."
            ) from None

    def __len__(self) -> int:
        return self._count

    def _rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for path in self.paths:
            with self._refusing():
                batches = self._parquet.ParquetFile(path).iter_batches(ROWS, columns=list(columns))
            while True:
                with self._refusing():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield from batch.to_pylist()

    def _frames(self) -> int:
        column = self.columns.frames
        if column is None:
            return 0
        numbers = {row[column] for row in self._rows([column])}
        if len(numbers) > 1 or not all(isinstance(n, int) and n > 0 for n in numbers):
            shown = ", ".join(sorted(map(str, numbers))[:5])
            raise DataError(
                f"the clips have different numbers of frames ({shown})",
                where=self.name,
                remedy="Cut all clips to one length.",
            )
        return int(numbers.pop())

    def _words_of_labels(self) -> tuple[str, ...]:
        label = self.columns.label
        if label is None:
            return ()
        words = {str(row[label]) for row in self._rows([label]) if row[label] is not None}
        return tuple(sorted(words, key=natural))

    def items(self) -> Iterator[Item]:
        columns = self.columns
        wanted = [c for c in (columns.image, columns.label, columns.caption) if c is not None]
        for number, row in enumerate(self._rows(wanted)):
            value = row[columns.image]
            data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
            label = None if columns.label is None else columns.word(row[columns.label])
            yield Item(
                f"row {number}" + (f" ({path})" if path else ""),
                data=data,
                fault=self._fault(data, label),
                label=label,
                caption=str(row[columns.caption] or "") if columns.caption else "",
            )

    def _fault(self, data: bytes | None, label: str | None) -> str | None:
        if data is None:
            return "the row holds no picture, only a path"
        if self.columns.label is not None and label not in self.classes:
            return f"its label ({label}) is none of the classes"
        return None

    def key(self) -> list[Any]:
        stats = ((p, p.stat()) for p in self.paths)
        clips = [self.frames] if self.frames else []
        return ["parquet", *clips, *([str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in stats)]


class Columns:
    """Which column of a schema is the picture, the label and the caption."""

    def __init__(self, schema: Any, where: str) -> None:
        features = _features(schema.metadata or {})
        names = list(schema.names)
        images = [n for n in names if features.get(n, {}).get("_type") == "Image"]
        images = images or [n for n in names if _holds_bytes(schema.field(n).type)]
        if not images:
            raise DataError(
                f"the Parquet file has no column of pictures (its columns: {', '.join(names)})",
                where=where,
                remedy="Call a column `image` and let it hold encoded files (PNG, JPEG) as bytes.",
            )
        labels = [n for n in names if features.get(n, {}).get("_type") == "ClassLabel"]
        labels = labels or [n for n in names if n in ("label", "labels", "class", "fine_label")]
        captions = [n for n in names if n in ("caption", "text", "prompt")]
        self.frames = "n_frames" if "n_frames" in names else None
        self.image = images[0]
        self.label = labels[0] if labels else None
        self.caption = captions[0] if captions else None
        known = features.get(self.label or "", {}).get("names") or []
        self.classes = tuple(map(str, known)) if isinstance(known, list) else ()

    def word(self, label: Any) -> str | None:
        """The name of a label, or the label itself where it has none."""
        named = isinstance(label, int) and 0 <= label < len(self.classes)
        return self.classes[label] if named else None if label is None else str(label)


def _features(metadata: dict[bytes, bytes]) -> dict[str, dict[str, Any]]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {k: v for k, v in features.items() if isinstance(v, dict)}


def _holds_bytes(kind: Any) -> bool:
    words = str(kind)
    return words in ("binary", "large_binary") or (words.startswith("struct<") and "bytes: " in words)
