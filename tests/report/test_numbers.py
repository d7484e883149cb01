"""Points as they are written: rounded, not cut off, with their sign."""

from __future__ import annotations

import pytest

from normlab.report.numbers import bracket, points, signed, with_interval
from normlab.results.statistics import Interval


@pytest.mark.parametrize(
    ("share", "digits", "expected"),
    [
        (0.01266, 1, "+1.3"),
        (-0.01266, 1, "−1.3"),
        (0.01266, 2, "+1.27"),
        (-0.01266, 2, "−1.27"),
        (0.00049, 1, "0.0"),
        (-0.00049, 1, "0.0"),
        (-0.00051, 1, "−0.1"),
    ],
)
def test_differences_are_rounded(share: float, digits: int, expected: str) -> None:
    assert signed(share, digits) == expected
    assert points(share, digits) == expected.lstrip("+−")


def test_an_interval_has_the_decimals_of_its_width() -> None:
    wide, narrow = Interval(-0.01266, 0.0177, 0.95), Interval(0.01266, 0.01277, 0.95)
    assert bracket(wide) == "[−1.3, +1.8]"
    assert with_interval(0.00249, wide) == "+0.2 [−1.3, +1.8]"
    assert with_interval(0.0127149, narrow) == "+1.27 [+1.27, +1.28]"
