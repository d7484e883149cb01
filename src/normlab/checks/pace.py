"""How long a check takes: said before it begins, and better known while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.cache import Progress
from ..pages.words import duration

SECONDS: Mapping[str, float] = {
    "Describing images": 0.06,
    "Finding neighbours": 0.2,
    "Laying images on each other": 0.3,
    "Describing images as they stand": 0.04,
    "Finding neighbours as they stand": 0.25,
    "Extracting details": 0.1,
    "Aligning images": 0.4,
    "Comparing pairs": 0.5,
    "Comparing unrelated pairs": 0.6,
    "Comparing images with themselves": 0.25,
    "Measuring pixels": 0.1,
    "Reading file headers": 0.04,
    "Testing cues": 0.4,
    "Looking for marks": 0.4,
    "Looking for blank images": 0.1,
}
"""Seconds for 1,000 images of each stage that checks report, in the order in which they come, on a
machine where :func:`_probe` takes :data:`_PROBE` seconds. A test compares the names with what is
reported."""

_PROBE = 0.0042
_TRUST = 10.0
"""Seconds of work after which what was seen counts as much as the probe."""
_SAY_FROM = 5.0
"""Seconds: a check that is expected to take less needs no estimate."""
_ROUNDED = ((60, 5), (600, 30), (float("inf"), 60))


@dataclass
class Pace:
    """Tells about stages, each with the time that is left in all.

    Attributes:
        images: to check.
        tell: called with a stage, and how many of how many are done.
        stages: those that are expected, to their seconds for 1,000 images.
    """

    images: int
    tell: Progress
    stages: Mapping[str, float] = field(default_factory=lambda: SECONDS)
    _scale: float = 1.0
    _began: float = 0.0
    _done: float = 0.0

    def begin(self) -> None:
        """Measure how fast this machine is at the moment, and say how long it will take."""
        self._scale = _probe() / _PROBE
        self._began = time.perf_counter()
        expected = self._whole * self._scale
        if expected >= _SAY_FROM:
            words = f"Checking {self.images:,} images takes {about(expected)}, less if it was done"
            self.tell(f"{words} before", 0, self.images)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Pass on what a check reports, with the time that is left."""
        left = self.left(stage, done / total if total else 1.0)
        words = f"{stage}, {about(left)} left in all" if left >= _SAY_FROM else stage
        self.tell(words, done, total)

    def left(self, stage: str, share: float) -> float:
        """Seconds that are left when this share of a stage is done."""
        names = list(self.stages)
        if stage in self.stages:
            before = sum(self.stages[name] for name in names[: names.index(stage)])
            part = (before + share * self.stages[stage]) * self.images / 1000
            self._done = max(self._done, part)
        elapsed = time.perf_counter() - self._began
        known = self._scale * _TRUST + elapsed
        scale = known / (_TRUST + self._done)
        return max(self._whole - self._done, 0.0) * scale

    @property
    def _whole(self) -> float:
        return sum(self.stages.values()) * self.images / 1000


def about(seconds: float) -> str:
    """A time that is not known well.

    >>> about(43), about(192), about(8000)
    ('about 45 s', 'about 3 min', 'about 2 h 13 min')
    """
    step = next(step for most, step in _ROUNDED if seconds < most)
    words = duration(max(round(seconds / step), 1) * step)
    return f"about {words.removesuffix(' 0 s')}"


def _probe() -> float:
    """Seconds of a small piece of work of the kind that a check does, the shortest of three."""
    pixels = np.random.default_rng(0).random((64, 64, 64), dtype=np.float32)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        spectra = np.fft.rfft2(pixels)
        np.fft.irfft2(spectra * spectra.conj())
        times.append(time.perf_counter() - began)
    return min(times)
