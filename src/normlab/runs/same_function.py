"""Whether two arms compute the same function, as it was found: ``checks/same-function/ARM.json``.

All differences are the largest absolute difference of a quantity, divided by its largest value in
the reference where that is above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..files import read_json, write_json
from ..values import json_numbers, read_numbers
from .integrity import AGAIN
from .layout import same_function_file
from .schema import check_same_function

BOUND = 1e-8
"""Largest difference in float64 that rounding explains."""
BOUND_FLOAT32 = {
    "loss": 1e-4,
    "gradients": 1e-2,
    "weights": 1e-2,
    "buffers": 1e-4,
    "evaluation logits": 1e-4,
}
"""Likewise in one step in float32. Among millions of values some are so near 0 that rounding
decides whether a ReLU lets their gradient through, which moves gradients and weights far more than
rounding itself; the forward pass has no such jumps."""
BOUND_BFLOAT16, COARSE_BFLOAT16 = 3.0, 5.0
"""Largest error of a layer in bfloat16 that is called rounding, and that can be: in units of the
reference's own error or of bfloat16's rounding (2**-9), whichever is larger. Layers with
statistics in float32 are at 1 and below. One that rounds after every operation reached 4.1; a
factor of 1.01 in the output gives 5.2."""

Outcome = Literal["same", "different", "undecided"]


@dataclass(frozen=True)
class Largest:
    """The largest difference of a quantity, where it was, and when it first passed the bound (0:
    before the first step; None: never)."""

    difference: float
    where: str
    step: int
    first_over: int | None


@dataclass(frozen=True)
class SameFunction:
    """What the comparison of an arm with the reference found.

    Attributes:
        reference, arm: the two.
        steps: steps compared in float64.
        largest: quantity to its largest difference over all steps. A quantity that the two do not
            have in common (buffers of other names) is not there.
        float32: quantity to the largest difference after one step in float32.
        mismatch: why the two cannot be compared, or "".
        diverged: whether the reference was no longer finite after ``steps`` steps, where the
            comparison ended.
        coarse: whether the arm's layer computes in less than float64 for float64 input, so that
            float64 cannot decide.
        bfloat16: of what a site's layer computes, to its largest error (see ``BOUND_BFLOAT16``);
            empty where the study does not train in bfloat16.
    """

    reference: str
    arm: str
    steps: int
    largest: Mapping[str, Largest]
    float32: Mapping[str, float]
    mismatch: str = ""
    diverged: bool = False
    coarse: bool = False
    bfloat16: Mapping[str, float] = field(default_factory=dict)

    @property
    def differing(self) -> list[str]:
        """The quantities that differ by more than rounding, the earliest first."""
        over = [name for name in self.largest if self.largest[name].first_over is not None]
        over.sort(key=lambda name: self.largest[name].first_over or 0)
        return over

    @property
    def differing_float32(self) -> list[str]:
        """The quantities that differ in float32 after one step."""
        return [n for n, value in self.float32.items() if not value <= BOUND_FLOAT32[n]]

    @property
    def differing_bfloat16(self) -> list[str]:
        """What a layer computes otherwise in bfloat16."""
        return [n for n, value in self.bfloat16.items() if not value <= COARSE_BFLOAT16]

    @property
    def coarse_bfloat16(self) -> list[str]:
        """What is further from exact in bfloat16 than in a layer with statistics in float32."""
        return [n for n, value in self.bfloat16.items() if not value <= BOUND_BFLOAT16]

    @property
    def outcome(self) -> Outcome:
        """``same``: nothing but rounding was found. ``different``: more than rounding was.
        ``undecided``: the two could not be compared, or not in float64 where float32 agrees, or
        the arm is so coarse in bfloat16 that it may be rounding or not."""
        if self.mismatch:
            return "undecided"
        if self.differing_float32 or self.differing_bfloat16:
            return "different"
        if self.differing:
            return "undecided" if self.coarse else "different"
        return "undecided" if self.coarse_bfloat16 else "same"


def write_same_function(study: Path, found: SameFunction, question: str) -> None:
    """Keep what was found, with the hash of what was asked."""
    content = {"question": question, **json_numbers(asdict(found))}
    write_json(same_function_file(study, found.arm), content)


def answered(study: Path, arm: str, question: str) -> bool:
    """Whether this very question was answered."""
    path = same_function_file(study, arm)
    return path.is_file() and read_json(path, AGAIN).get("question") == question


def read_same_function(study: Path, arm: str) -> SameFunction | None:
    """What was found; None where it was never asked."""
    path = same_function_file(study, arm)
    if not path.is_file():
        return None
    content = {name: read_numbers(value) for name, value in read_json(path, AGAIN).items()}
    check_same_function(content, path)
    largest = {name: Largest(**_own(Largest, one)) for name, one in content["largest"].items()}
    return SameFunction(**{**_own(SameFunction, content), "largest": largest})


def _own(cls: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a record says, the fields of a class."""
    return {f.name: content[f.name] for f in fields(cls) if f.name in content}
