"""The parsers of data, as ``benchmarks/fuzzing.py`` lists them, for guided fuzzing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fuzzing

from .parser import Parser


def data_parsers(base: Path) -> dict[str, Parser]:
    """Name to parser; what they read lies below a folder."""
    folder = base / "fed"
    folder.mkdir(parents=True)
    place = base / "input"
    return {
        one.name: Parser(one.seeds, place, _reading(one, place, folder))
        for one in fuzzing.parsers()
    }


def _reading(parser: fuzzing.Parser, place: Path, folder: Path) -> Callable[[], None]:
    def read() -> None:
        try:
            parser.call(place.read_bytes(), folder)
        except fuzzing.EXPECTED:
            return

    return read
