"""What a study asked, and of which data: ``study.toml``, ``data.json``, ``split.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bounded import TOML_BYTES, parse_toml, read_file
from ..errors import InputError
from ..files import read_json, write_bytes, write_json, write_text
from .layout import DATA, SPLIT, STUDY, is_study
from .schema import check_data, check_question

FORMAT = "normlab study 1"


def write_question(folder: Path, question: Mapping[str, Any]) -> None:
    """Write study.toml. TOML has no null: a value that is None is left out.

    Raises:
        InputError: it could not be read back.
    """
    import tomli_w

    content = {"format": FORMAT, **_without_none(question)}
    check_question(content, folder / STUDY)
    write_text(folder / STUDY, tomli_w.dumps(content))


def read_question(folder: Path) -> dict[str, Any]:
    """What study.toml says.

    Raises:
        InputError: there is no study in the folder, or the file cannot be read.
    """
    path = folder / STUDY
    if not is_study(folder):
        raise InputError(f"{folder} does not contain a study (no {STUDY}).")
    content = parse_toml(read_file(path, TOML_BYTES), path)
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is not of the format {FORMAT!r}.")
    check_question(content, path)
    return content


def write_data(folder: Path, described: Mapping[str, Any]) -> None:
    """Write data.json: the data set and the findings of its check.

    Raises:
        InputError: it could not be read back.
    """
    check_data(dict(described), folder / DATA)
    write_json(folder / DATA, dict(described))


def read_data(folder: Path) -> dict[str, Any]:
    """What data.json says.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    content = read_json(folder / DATA)
    check_data(content, folder / DATA)
    return content


def keep_split(folder: Path, content: bytes) -> None:
    """Keep a copy of the split file that a study uses in its folder."""
    write_bytes(folder / SPLIT, content)


def _without_none(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {k: _without_none(v) for k, v in values.items() if v is not None}
    return values
