"""Whether two arms compute the same function, as it was found: ``checks/same-function/ARM.json``.

All differences are the largest absolute difference of a quantity, divided by its largest value in
the reference where that is above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..files import read_json, write_json
from ..values import json_numbers, read_numbers
from .layout import same_function_file

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
QUANTITIES = ("loss", "gradients", "weights", "buffers", "evaluation logits")

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
    """

    reference: str
    arm: str
    steps: int
    largest: Mapping[str, Largest]
    float32: Mapping[str, float]
    mismatch: str = ""
    diverged: bool = False
    coarse: bool = False

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
    def outcome(self) -> Outcome:
        """``same``: nothing but rounding was found. ``different``: more than rounding was.
        ``undecided``: the two could not be compared, or not in float64 where float32 agrees."""
        if self.mismatch:
            return "undecided"
        if self.differing_float32:
            return "different"
        if self.differing:
            return "undecided" if self.coarse else "different"
        return "same"


def write_same_function(study: Path, found: SameFunction, question: str) -> None:
    """Keep what was found, with the hash of what was asked."""
    content = {"question": question, **json_numbers(asdict(found))}
    write_json(same_function_file(study, found.arm), content)


def answered(study: Path, arm: str, question: str) -> bool:
    """Whether this very question was answered."""
    path = same_function_file(study, arm)
    return path.is_file() and read_json(path).get("question") == question


def read_same_function(study: Path, arm: str) -> SameFunction | None:
    """What was found; None where it was never asked."""
    path = same_function_file(study, arm)
    if not path.is_file():
        return None
    content = {k: read_numbers(v) for k, v in read_json(path).items() if k != "question"}
    largest = {name: Largest(**value) for name, value in content["largest"].items()}
    return SameFunction(**{**content, "largest": largest})
