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

from ..bounded import JSON_BYTES, parse_json, read_file
from ..errors import InputError
from ..files import write_json
from ..seals import check_seal
from ..splits import SPLITS

T = TypeVar("T")

FORMAT = "normlab split 1"
_CALLED = {"dict": "an object", "list": "a list", "str": "text"}
_EACH = 1 << 10
"""Bytes that a split file may have for each image."""
LEFT_OUT = -1
UNKNOWN = -2


@dataclass(frozen=True)
class SplitFile:
    """A split, independent of file names.

    Attributes:
        source: name of the source, for people.
        classes: names of the classes.
        seed: of the draw.
        images: split to content hash to the name of the first file that has it.
        left_out: content hash to the file's name and the reason why it is in no split.
        repeats: path of a file that is in no split, although another with the same content is in
            one, to the reason. If such a file is renamed, it goes where the other one is.
        notes: what was done, in sentences.
        moved: file, the split it was in, the split it is in now.
        together: hashes of images that are to stay together, group by group, in a file for folds;
            None in one that assigns images to splits.
    """

    source: str
    classes: Sequence[str]
    seed: int
    images: Mapping[str, Mapping[int, str]]
    left_out: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    repeats: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    moved: Sequence[Sequence[str]] = ()
    together: Sequence[Sequence[int]] | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON, one line per image, sealed (see :mod:`normlab.seals`)."""
        content: dict[str, Any] = {
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
            **({"repeats": dict(self.repeats)} if self.repeats else {}),
            "moved": [list(move) for move in self.moved],
        }
        if self.together is not None:
            content["together"] = [[f"{one:016x}" for one in group] for group in self.together]
        write_json(path, content)

    @classmethod
    def read(cls, path: Path, images: int = 0) -> SplitFile:
        """Read a split file. One that was written by hand has no seal.

        Args:
            path: the file.
            images: how many it may have to assign; it may be as large as they make it.

        Raises:
            DamagedError: it is not what was written.
            InputError: it does not exist, or is not a split file.
        """
        if not os.path.exists(path):  # noqa: PTH110 - which raises nothing
            raise InputError(
                f"The split file {path} does not exist. Write one with normlab check-data SOURCE "
                f"--write-split {path}."
            )
        content = read_file(path, max(JSON_BYTES, images * _EACH))
        check_seal(
            content,
            path,
            "Write it again with normlab check-data, or remove the line with its sha256 if you "
            "edited it yourself.",
        )
        parsed = parse_json(content, path)
        if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
            raise InputError(f"{path} is not a split file: its format is not {FORMAT!r}.")
        try:
            made = cls._of(parsed)
        except (KeyError, TypeError, ValueError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path} is a damaged split file: {what}.") from error
        every = [content for found in made.images.values() for content in found]
        every += list(made.left_out)
        if len(every) != len(set(every)):
            raise InputError(f"{path} puts an image in more than one split.")
        return made

    @classmethod
    def _of(cls, parsed: dict[str, Any]) -> SplitFile:
        images = _a(dict, parsed["images"], "images")
        assigned = {
            split: {
                _hash(text): _a(str, name, "the name of an image")
                for text, name in _a(dict, images[split], split).items()
            }
            for split in SPLITS
        }
        left_out = {
            _hash(text): _texts(_a(dict, why, "left_out"))
            for text, why in _a(dict, parsed["left_out"], "left_out").items()
        }
        seed = parsed["seed"]
        if type(seed) is not int:
            raise TypeError("seed must be a whole number")
        moved = [_list_of_texts(move, "moved") for move in _a(list, parsed["moved"], "moved")]
        together = parsed.get("together")
        if together is not None:
            together = [
                [_hash(text) for text in _list_of_texts(group, "together")]
                for group in _a(list, together, "together")
            ]
        return cls(
            source=_a(str, parsed["source"], "source"),
            classes=tuple(_list_of_texts(parsed["classes"], "classes")),
            seed=seed,
            images=assigned,
            left_out=left_out,
            repeats=_texts(_a(dict, parsed.get("repeats", {}), "repeats")),
            notes=tuple(_list_of_texts(parsed["notes"], "notes")),
            moved=moved,
            together=together,
        )

    def places(
        self, contents: npt.NDArray[np.uint64], names: Sequence[str]
    ) -> npt.NDArray[np.int8]:
        """Index into ``SPLITS`` for each file; -1 means left out, -2 not in the file.

        Args:
            contents: hash of each file.
            names: their paths.
        """
        known: dict[int, int] = dict.fromkeys(self.left_out, LEFT_OUT)
        for index, split in enumerate(SPLITS):
            known |= dict.fromkeys(self.images[split], index)
        return np.array(
            [
                LEFT_OUT if name in self.repeats else known.get(content, UNKNOWN)
                for content, name in zip(contents.tolist(), names, strict=True)
            ],
            dtype=np.int8,
        )

    def summary(self) -> dict[str, Any]:
        """For data.json."""
        return {"source": self.source, "seed": self.seed, "notes": list(self.notes)}


def _hash(text: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{1,16}", text):
        raise ValueError(f"{text[:40]!r} is no hash of an image")
    return int(text, 16)


def _a(kind: type[T], value: object, what: str) -> T:
    if not isinstance(value, kind):
        wanted = _CALLED[kind.__name__]
        raise TypeError(f"{what} must be {wanted}, not {type(value).__name__}")
    return value


def _list_of_texts(value: object, what: str) -> list[str]:
    return [_a(str, one, what) for one in _a(list, value, what)]


def _texts(value: dict[str, Any]) -> dict[str, str]:
    return {name: _a(str, one, name) for name, one in value.items()}
