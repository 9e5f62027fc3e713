"""Data from the Hugging Face Hub, only because the user typed `hub:owner/name`.

    hub:owner/name[@revision][/split]         split is train unless named

Only Parquet files are fetched (the repository's own, else the Hub's converted ones) and read as data;
no loading script is run and there is no switch to run one. Files land in the Hub's own cache.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RefusedError, UsageError, did_you_mean
from .parquet import Parquet

_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(/(?P<split>[\w.-]+))?")
_CONVERTED = "refs/convert/parquet"


def open_hub(address: str) -> Parquet:
    """The pictures of a data set on the Hub; `address` is what follows hub:."""
    match = _NAME.fullmatch(address)
    if match is None or ".." in address:
        raise UsageError(
            f"'hub:{address}' is no data set", remedy="Write hub:owner/name or hub:owner/name/split."
        )
    repo, split = match["repo"], match["split"] or "train"
    hub = _need_hub()
    try:
        commit, files = _find(hub, repo, match["revision"])
        chosen = _of_split(files, split, repo)
        paths = [
            Path(hub.hf_hub_download(repo, f, repo_type="dataset", revision=commit)) for f in sorted(chosen)
        ]
    except (OSError, ValueError) as error:  # the Hub's errors derive from these; a refused file has its own
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise RefusedError(
            f"'{repo}' could not be fetched from the Hub: {first}",
            remedy="Check the name and the connection, or download the Parquet files and give their folder.",
        ) from None
    return Parquet(paths, name=f"hub:{repo}@{commit[:12]}/{split}")


def _need_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            "hub: needs huggingface_hub", remedy="Install it: pip install 'sfumato[hub]'"
        ) from None
    return huggingface_hub


def _find(hub: Any, repo: str, revision: str | None) -> tuple[str, list[str]]:
    """(commit, Parquet files) of the repository, or of the Hub's conversion of it."""
    for place in (revision, None if revision else _CONVERTED):
        if place is None and revision:
            break
        info = hub.HfApi().dataset_info(repo, revision=place)
        files = [s.rfilename for s in info.siblings or [] if s.rfilename.endswith(".parquet")]
        if files:
            return str(info.sha), files
    raise DataError(
        f"'{repo}' offers no Parquet files",
        remedy="Download it and give the folder of pictures; loading scripts are never run.",
    )


def _of_split(files: list[str], split: str, repo: str) -> list[str]:
    """The files whose name or folder is that of the split; all of them if no file names any split."""
    chosen = [f for f in files if re.search(rf"(^|[/_-]){re.escape(split)}([/_.-]|$)", f)]
    if chosen:
        return chosen
    known = {
        m[2] for f in files if (m := re.search(r"(^|[/_-])(train|test|validation|valid|val)([/_.-]|$)", f))
    }
    if known or split != "train":
        raise DataError(f"'{repo}' has no split '{split}'", remedy=did_you_mean(split, known or {"train"}))
    return files
