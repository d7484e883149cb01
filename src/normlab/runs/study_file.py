"""What a study asked, and of which data: ``study.toml``, ``data.json``, ``split.json``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json, write_bytes, write_json, write_text
from .layout import DATA, SPLIT, STUDY, is_study

FORMAT = "normlab study 1"


def write_question(folder: Path, question: Mapping[str, Any]) -> None:
    """Write study.toml. TOML has no null: a value that is None is left out."""
    import tomli_w

    write_text(folder / STUDY, tomli_w.dumps({"format": FORMAT, **_without_none(question)}))


def read_question(folder: Path) -> dict[str, Any]:
    """What study.toml says.

    Raises:
        InputError: there is no study in the folder, or the file cannot be read.
    """
    path = folder / STUDY
    if not is_study(folder):
        raise InputError(f"{folder} does not contain a study (no {STUDY}).")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is not of the format {FORMAT!r}.")
    return content


def write_data(folder: Path, described: Mapping[str, Any]) -> None:
    """Write data.json: the data set and the findings of its check."""
    write_json(folder / DATA, dict(described))


def read_data(folder: Path) -> dict[str, Any]:
    """What data.json says.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    content: dict[str, Any] = read_json(folder / DATA)
    return content


def keep_split(folder: Path, content: bytes) -> None:
    """Keep a copy of the split file that a study uses in its folder."""
    write_bytes(folder / SPLIT, content)


def _without_none(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {k: _without_none(v) for k, v in values.items() if v is not None}
    return values
