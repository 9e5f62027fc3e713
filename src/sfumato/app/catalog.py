"""The one catalog: every part a recipe may name in JSON, and every recipe `train` knows.

A recipe file names entries of this table and nothing else; no module path, no import, no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..recipes import RECIPES as RECIPES
from ..recipes import parts

CATALOG: dict[str, Callable[..., Any]] = {part.__name__: part for part in parts()}
NAMES: dict[Callable[..., Any], str] = {part: name for name, part in CATALOG.items()}
