"""A split in a file: which image, identified by its content, is in which split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import read_json, write_json
from ..splits import SPLITS

FORMAT = "normlab split 1"
LEFT_OUT = -1
UNKNOWN = -2

K = TypeVar("K")
_KINDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a text", int: "a whole number"
}  # fmt: skip


_MOST = 32 << 20
"""Bytes: of half a million images."""
_ADVICE = (
    "Write it again with normlab check-data SOURCE --write-split FILE. If you edited it on "
    "purpose, remove its field sha256."
)
_CONTENT = re.compile(r"[0-9A-Fa-f]{1,16}")


@dataclass(frozen=True)
class _Fields:
    """What a split file says, field by field."""

    path: Path
    content: Mapping[str, Any]

    def wrong(self, what: str) -> InputError:
        return InputError(f"{self.path} is not a split file that can be read: {what}.")

    def of(self, name: str, kind: type[K]) -> K:
        value = self.content.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.wrong(f"{name} must be {_KINDS[kind]}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.of(name, list)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{name} must be a list of texts")
        return tuple(values)

    def by_content(self, found: Mapping[str, Any], kind: type[K]) -> dict[int, K]:
        """Values by the hash of an image's content."""
        for text, value in found.items():
            if not _CONTENT.fullmatch(text):
                raise self.wrong(f"{text[:60]!r} is not the hash of an image (16 hex digits)")
            if not isinstance(value, kind):
                raise self.wrong(f"what it says of image {text} must be {_KINDS[kind]}")
        hashes = {int(text, 16): value for text, value in found.items()}
        if len(hashes) != len(found):
            raise self.wrong("it lists an image twice in one split")
        return hashes


@dataclass(frozen=True)
class SplitFile:
    """A split, independent of file names.

    Attributes:
        source: name of the source, for people.
        classes: names of the classes.
        seed: of the draw.
        images: split to content hash to the name of the first file that has it.
        left_out: content hash to the file's name and the reason why it is in no split.
        notes: what was done, in sentences.
        moved: file, the split it was in, the split it is in now.
    """

    source: str
    classes: Sequence[str]
    seed: int
    images: Mapping[str, Mapping[int, str]]
    left_out: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    moved: Sequence[Sequence[str]] = ()

    def write(self, path: Path) -> None:
        """Write it as JSON, one line per image, sealed."""
        content = {
            "format": FORMAT,
            "source": self.source,
            "classes": list(self.classes),
            "seed": self.seed,
            "notes": list(self.notes),
            "images": {
                split: {f"{content:016x}": name for content, name in found.items()}
                for split, found in self.images.items()
            },
            "left_out": {f"{content:016x}": dict(why) for content, why in self.left_out.items()},
            "moved": [list(move) for move in self.moved],
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> SplitFile:
        """Read a split file. One that is sealed is compared with its seal.

        Raises:
            DamagedError: it is not what was written.
            InputError: it does not exist, or is not a split file.
        """
        if not os.path.lexists(path):
            raise InputError(
                f"The split file {path} does not exist. Write one with normlab check-data SOURCE "
                f"--write-split {path}."
            )
        content = read_json(path, _ADVICE, _MOST)
        if content.get("format") != FORMAT:
            raise InputError(f"{path} is not a split file: its format is not {FORMAT!r}.")
        field = _Fields(path, content)
        found = field.of("images", dict)
        unlike = [split for split in SPLITS if not isinstance(found.get(split), dict)]
        if unlike:
            raise field.wrong(f"images must have an object for {unlike[0]}")
        images = {split: field.by_content(found[split], str) for split in SPLITS}
        left_out = field.by_content(field.of("left_out", dict), dict)
        every = [one for group in images.values() for one in group] + list(left_out)
        if len(every) != len(set(every)):
            raise InputError(f"{path} puts an image in more than one split.")
        return cls(
            source=field.of("source", str),
            classes=field.texts("classes"),
            seed=field.of("seed", int),
            images=images,
            left_out=left_out,
            notes=field.texts("notes"),
            moved=field.of("moved", list),
        )

    def places(self, contents: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
        """Index into ``SPLITS`` for each content hash; -1 means left out, -2 not in the file."""
        known: dict[int, int] = dict.fromkeys(self.left_out, LEFT_OUT)
        for index, split in enumerate(SPLITS):
            known |= dict.fromkeys(self.images[split], index)
        return np.array([known.get(c, UNKNOWN) for c in contents.tolist()], dtype=np.int8)

    def summary(self) -> dict[str, Any]:
        """For data.json."""
        return {"source": self.source, "seed": self.seed, "notes": list(self.notes)}
