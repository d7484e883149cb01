"""What a person decided about pairs of images: copies, or different pictures.

The file is a table (CSV) with the columns ``first``, ``second``, ``first_content``,
``second_content`` and ``decision``; ``pairs.csv`` has them too, among others, and the page writes
one. An image is known by the hash of its content, so that a decision survives renaming; where a row
has no hash, by its path inside the source.

The decisions that were given last for a source are remembered in the cache, where every later check
of that source and ``compare`` find them. The file itself stays the person's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bounded import read_file
from ...cache_files import keep_arrays, kept_arrays
from ...errors import InputError
from ...files import csv_plain
from ...keyed import key
from ...pages.findings import Finding, Level
from ...pages.words import counted, visible
from ..image_set import ImageSet

Contents = npt.NDArray[np.uint64]

COPY, DIFFERENT = "copy", "different"
COLUMNS = ("first", "second", "first_content", "second_content", "decision")
"""Of a file of decisions, in the order in which the page writes them."""

_MOST_BYTES = 64 << 20
_MOST_ROWS = 500_000
_LONGEST_CELL = 1 << 14
_HASH = re.compile(r"x?([0-9a-fA-F]{16})")
_SHOWN = 40


@dataclass(frozen=True)
class Row:
    """A row of the file.

    Attributes:
        names: paths of the two images.
        contents: their hashes; None where the file has none.
        copy: whether they are copies.
        line: of the file.
    """

    names: tuple[str, str]
    contents: tuple[int | None, int | None]
    copy: bool
    line: int


@dataclass(frozen=True, eq=False)
class Decisions:
    """What was decided about pairs of images.

    Attributes:
        pairs: (k, 2) hashes of contents, the smaller one first.
        copy: (k,) whether they are copies; otherwise they are different pictures.
        here: (k,) whether both images are in the set.
        file: where they come from; empty where nobody decided anything.
        foreign: rows that name an image that is not in the set.
        exact: rows about images that are equal, where there is nothing to decide.
    """

    pairs: Contents
    copy: npt.NDArray[np.bool_]
    here: npt.NDArray[np.bool_]
    file: str = ""
    foreign: int = 0
    exact: int = 0

    def __len__(self) -> int:
        """How many hold for the set."""
        return int(self.here.sum())

    @property
    def copies(self) -> int:
        """Pairs of the set that were confirmed; the others were rejected."""
        return int((self.here & self.copy).sum())

    @property
    def everything(self) -> str:
        """Identifies all of them, whether they hold for the set or not; empty for none."""
        if not len(self.pairs):
            return ""
        return f"{key(self.pairs.tobytes().hex(), self.copy.tobytes().hex()):016x}"

    def findings(self) -> list[Finding]:
        """One, or none where nobody decided anything."""
        if not len(self) and not self.foreign and not self.exact:
            return []
        said = (
            f"{counted(len(self), 'decision')} in {visible(Path(self.file).name)} "
            f"{'holds' if len(self) == 1 else 'hold'}: {counted(self.copies, 'pair')} confirmed as "
            f"copies, {len(self) - self.copies:,} rejected."
        )
        if self.foreign:
            said += (
                f" {counted(self.foreign, 'more row')} "
                f"{'names' if self.foreign == 1 else 'name'} images that are not in this set."
            )
        if self.exact:
            said += (
                f" {counted(self.exact, 'more row')} {'is' if self.exact == 1 else 'are'} about "
                "exact copies, which nobody needs to decide about."
            )
        return [Finding("decisions", Level.FINE, said)]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "file": self.file,
            "confirmed": self.copies,
            "rejected": len(self) - self.copies,
            "not_in_this_set": self.foreign,
            "about_exact_copies": self.exact,
        }


NONE = Decisions(np.empty((0, 2), np.uint64), np.empty(0, np.bool_), np.empty(0, np.bool_))
"""Nobody decided anything."""


def read_decisions(path: Path) -> list[Row]:
    """Read a file of decisions. Rows whose decision is empty decide nothing and are left out.

    Raises:
        InputError: it cannot be read, lacks a column, or has a row that cannot be understood; the
            message names the line.
    """
    try:
        text = read_file(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no table of decisions: it is not UTF-8 text.") from None
    found: list[Row] = []
    decided: dict[tuple[str, ...], tuple[bool, int]] = {}
    for line, cells in _cells(text, path):
        said = cells["decision"].strip().casefold()
        if not said:
            continue
        if said not in (COPY, DIFFERENT):
            raise InputError(
                f"{path}, line {line}: decision must be {COPY} or {DIFFERENT}, or empty; got "
                f"{said[:_SHOWN]!r}."
            )
        names = csv_plain(cells["first"]), csv_plain(cells["second"])
        row = Row(
            names,
            (_hash(cells, "first", path, line), _hash(cells, "second", path, line)),
            said == COPY,
            line,
        )
        if not all(name or content for name, content in zip(names, row.contents, strict=True)):
            raise InputError(f"{path}, line {line}: first and second must name two images.")
        both = tuple(sorted(str(c or n) for n, c in zip(names, row.contents, strict=True)))
        before, at = decided.setdefault(both, (row.copy, line))
        if before != row.copy:
            raise InputError(_twice(path, names, at, line))
        if at == line:
            found.append(row)
    return found


def _cells(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        lacking = [name for name in ("first", "second", "decision")
                   if name not in (reader.fieldnames or ())]  # fmt: skip
        if lacking:
            raise InputError(
                f"{path} is no table of decisions: it has no column {lacking[0]!r}. Its columns "
                f"must be {', '.join(COLUMNS)}; pairs.csv of a check has them."
            )
        for number, cells in enumerate(reader):
            if number == _MOST_ROWS:
                raise InputError(f"{path} has more than {_MOST_ROWS:,} rows.")
            yield reader.line_num, {name: cells.get(name) or "" for name in COLUMNS}
    except csv.Error as error:
        raise InputError(f"{path} is no table of decisions: {error}.") from error
    finally:
        csv.field_size_limit(before)


def _hash(cells: dict[str, str], side: str, path: Path, line: int) -> int | None:
    text = cells[f"{side}_content"].strip()
    if not text:
        return None
    digits = _HASH.fullmatch(text)
    if digits is None:
        raise InputError(
            f"{path}, line {line}: {side}_content must be an x and 16 hexadecimal digits, got "
            f"{text[:_SHOWN]!r}."
        )
    return int(digits[1], 16)


def written(content: int) -> str:
    """A hash as a cell that no spreadsheet takes for a number.

    >>> written(1234567890)
    'x00000000499602d2'
    """
    return f"x{content:016x}"


def decisions_about(image_set: ImageSet, rows: list[Row], path: Path) -> Decisions:
    """Rows of a file as decisions about images of this set.

    Raises:
        InputError: there are decisions, and none is about a pair of its images.
    """
    contents = image_set.contents.tolist()
    by_name = dict(zip(image_set.names.tolist(), contents, strict=True))
    pixels = dict(zip(contents, image_set.digests.tolist(), strict=True))
    found: dict[tuple[int, int], tuple[bool, int]] = {}
    foreign = exact = 0
    for row in rows:
        one, two = (
            by_name.get(name) if content is None else content
            for name, content in zip(row.names, row.contents, strict=True)
        )
        here = one in pixels and two in pixels
        foreign += not here
        if one is None or two is None:
            continue
        if one == two or (here and pixels[one] == pixels[two]):
            exact += here
            continue
        copy, line = found.setdefault((min(one, two), max(one, two)), (row.copy, row.line))
        if copy != row.copy:
            raise InputError(_twice(path, row.names, line, row.line))
    if rows and foreign == len(rows):
        name = visible(next(filter(None, rows[0].names), "the first image"))
        raise InputError(
            f"{path} decides about no pair of images of {image_set.data.source}: for example, "
            f"{name} or what it is paired with is not there. Is it the file of another set?"
        )
    pairs = sorted(found)
    return Decisions(
        np.array(pairs, np.uint64).reshape(-1, 2),
        np.array([found[pair][0] for pair in pairs], np.bool_),
        np.array([one in pixels and two in pixels for one, two in pairs], np.bool_),
        str(path),
        foreign,
        exact,
    )


def _twice(path: Path, names: tuple[str, str], first: int, second: int) -> str:
    return (
        f"{path} decides twice about {visible(names[0])} and {visible(names[1])}, in lines {first} "
        f"and {second}, and not in the same way. Remove one of them."
    )


def decide(image_set: ImageSet, decisions: Decisions, *, remember: bool = True) -> None:
    """Let these decisions hold for the image set, and remember them for its source."""
    image_set.put("decisions", decisions)
    if remember:
        arrays = {
            "pairs": decisions.pairs,
            "copy": decisions.copy,
            "path": np.array([decisions.file], np.str_),
        }
        keep_arrays("decisions", _name(image_set), arrays)


def decisions_of(image_set: ImageSet) -> Decisions:
    """The decisions that hold for an image set: those given with it, or else those remembered."""
    return image_set.once("decisions", lambda: _remembered(image_set))


def _remembered(image_set: ImageSet) -> Decisions:
    kept = kept_arrays(
        "decisions",
        _name(image_set),
        "Decisions about pairs do not hold until their file is given again: normlab check-data "
        "SOURCE --decisions FILE",
    )
    if kept is None or not {"pairs", "copy", "path"} <= set(kept):
        return NONE
    pairs, copy = kept["pairs"], kept["copy"]
    if pairs.shape != (len(copy), 2) or pairs.dtype != np.uint64 or copy.dtype != np.bool_:
        return NONE
    here = np.isin(pairs, image_set.contents).all(axis=1)
    return Decisions(pairs, copy, np.asarray(here, np.bool_), str(kept["path"].reshape(-1)[0]))


def _name(image_set: ImageSet) -> str:
    return f"{key('decisions', image_set.data.source):016x}"
