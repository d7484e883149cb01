"""What a study asked, and of which data: ``study.toml``, ``data.json``, ``split.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bounded import JSON_BYTES, TOML_BYTES, parse_toml, read_file
from ..errors import InputError
from ..files import read_json, write_bytes, write_json
from ..seals import DamagedError, check_files, check_seal, digests_of, is_sealed, sealed_toml
from .layout import DATA, SPLIT, STUDY, is_study
from .schema import check_data, check_question

FORMAT = "normlab study 1"
FILES = "files"
"""The field of study.toml that has the SHA-256 of the split file."""
_HEAD = "# Written by normlab, and compared with the checksum in the last line. Not to be edited.\n"
_AGAIN = (
    "Repeat the command that made the study, with --repair: the file is set aside, and written "
    "anew from what is asked and from the runs."
)
_REWRITTEN = "The command that made the study writes it anew."


class OtherFormatError(InputError):
    """A study of another version's format, which is no damage."""


def write_question(folder: Path, question: Mapping[str, Any]) -> None:
    """Write study.toml, after the split file, whose checksum it has. TOML has no null: a value that
    is None is left out.

    Raises:
        InputError: it could not be read back.
    """
    import tomli_w

    content = {"format": FORMAT, **_without_none(question)}
    if content["data"].get("split") is not None:
        content[FILES] = digests_of(folder, (SPLIT,))
    check_question(content, folder / STUDY)
    write_bytes(folder / STUDY, sealed_toml(_HEAD + tomli_w.dumps(content)))


def read_question(folder: Path) -> dict[str, Any]:
    """What study.toml says.

    Raises:
        DamagedError: the file is not what was written.
        OtherFormatError: it has another format.
        InputError: there is no study in the folder, or the file cannot be read.
    """
    path = folder / STUDY
    if not is_study(folder):
        raise InputError(f"{folder} does not contain a study (no {STUDY}).")
    content = read_file(path, TOML_BYTES)
    check_seal(content, path, _AGAIN)
    if content.startswith(_HEAD.encode()[:10]) and not is_sealed(content):
        raise DamagedError(path, "its last line is not its checksum", _AGAIN)
    question = parse_toml(content, path)
    if "format" not in question:
        raise DamagedError(path, "it does not say that it is of a study", _AGAIN)
    if question.get("format") != FORMAT:
        raise OtherFormatError(f"{path} is not of the format {FORMAT!r}.")
    check_question(question, path)
    return question


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
        DamagedError: the file is not what was written.
        InputError: the file is missing or cannot be read.
    """
    if not (folder / DATA).exists():
        raise InputError(f"{folder / DATA} does not exist. {_REWRITTEN}")
    content = read_json(folder / DATA, _REWRITTEN)
    check_data(content, folder / DATA)
    return content


def unsealed(folder: Path) -> list[str]:
    """Which of study.toml and data.json have no checksum, as an earlier version wrote them."""
    return [name for name in (STUDY, DATA) if not is_sealed(read_file(folder / name, JSON_BYTES))]


def keep_split(folder: Path, content: bytes) -> None:
    """Keep a copy of the split file that a study uses in its folder."""
    write_bytes(folder / SPLIT, content)


def check_split_copy(folder: Path) -> None:
    """Compare the copy of the split file with what study.toml says of it, if it does.

    Raises:
        DamagedError: it is missing, or not what was written.
        InputError: study.toml cannot be read.
    """
    known = read_question(folder).get(FILES)
    if isinstance(known, Mapping) and isinstance(known.get(SPLIT), str):
        check_files(folder, {SPLIT: known[SPLIT]}, _REWRITTEN)


def asked_seeds(question: Mapping[str, Any], arm: str) -> tuple[int, ...]:
    """The seeds of an arm: the study's, or the first of them for an arm that got fewer.

    >>> asked_seeds({"seeds": [0, 1, 2, 3, 4], "fewer_seeds": {"gn": 3}}, "gn")
    (0, 1, 2)
    """
    seeds = tuple(sorted(question["seeds"]))
    return seeds[: question.get("fewer_seeds", {}).get(arm, len(seeds))]


def _without_none(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {k: _without_none(v) for k, v in values.items() if v is not None}
    return values
