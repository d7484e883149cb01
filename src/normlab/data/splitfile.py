"""A split in a file: which image, identified by its content, is in which split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import write_text
from ..splits import SPLITS

FORMAT = "normlab split 1"
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
        """Write it as JSON, one line per image."""
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
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> SplitFile:
        """Read a split file.

        Raises:
            InputError: it does not exist, or is not a split file.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"The split file {path} does not exist. Write one with normlab check-data SOURCE "
                f"--write-split {path}."
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a split file: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} is not a split file: its format is not {FORMAT!r}.")
        try:
            images = {
                split: {int(text, 16): str(name) for text, name in content["images"][split].items()}
                for split in SPLITS
            }
            left_out = {int(text, 16): dict(why) for text, why in content["left_out"].items()}
            made = cls(
                source=str(content["source"]),
                classes=tuple(map(str, content["classes"])),
                seed=int(content["seed"]),
                images=images,
                left_out=left_out,
                notes=tuple(map(str, content["notes"])),
                moved=content["moved"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is a damaged split file: {error!r}.") from error
        every = [content for found in images.values() for content in found] + list(left_out)
        if len(every) != len(set(every)):
            raise InputError(f"{path} puts an image in more than one split.")
        return made

    def places(self, contents: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
        """Index into ``SPLITS`` for each content hash; -1 means left out, -2 not in the file."""
        known: dict[int, int] = dict.fromkeys(self.left_out, LEFT_OUT)
        for index, split in enumerate(SPLITS):
            known |= dict.fromkeys(self.images[split], index)
        return np.array([known.get(c, UNKNOWN) for c in contents.tolist()], dtype=np.int8)

    def summary(self) -> dict[str, Any]:
        """For data.json."""
        return {"source": self.source, "seed": self.seed, "notes": list(self.notes)}
