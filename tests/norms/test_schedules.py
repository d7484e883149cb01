"""Ramps: numbers that follow a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.norms import BatchRenorm2d, Ramp


def test_a_ramp_is_linear_between_its_points_and_constant_beyond_them() -> None:
    ramp = Ramp(((0.125, 1.0), (0.5, 3.0), (0.75, -1.0)))
    values = {0.0: 1.0, 0.125: 1.0, 0.3125: 2.0, 0.5: 3.0, 0.625: 1.0, 0.75: -1.0, 1.0: -1.0}
    assert {share: ramp.at(share) for share in values} == values
    assert ramp.last == -1.0
    assert [Ramp(((0.3, 7),)).at(share) for share in (0.0, 0.3, 1.0)] == [7.0, 7.0, 7.0]


@given(st.floats(0, 1), st.floats(1, 100))
def test_bounds_never_leave_what_they_go_between(share: float, r_max: float) -> None:
    ramps = BatchRenorm2d(2, r_max=r_max).schedules
    assert 1.0 <= ramps["r_max"].at(share) <= r_max
    assert 0.0 <= ramps["d_max"].at(share) <= 5.0
    assert (ramps["r_max"].at(share), ramps["d_max"].at(share)) == (1.0, 0.0) or share > 0.05


def test_the_schedule_of_batch_renorm_is_the_papers_of_100_000_updates() -> None:
    ramps = BatchRenorm2d(2).schedules
    found = [
        tuple(round(ramps[name].at(step / 100_000), 9) for name in ("r_max", "d_max"))
        for step in (0, 5000, 15_000, 22_500, 25_000, 40_000, 100_000)
    ]
    r = [1.0, 1.0, 1 + 2 * 10 / 35, 2.0, 1 + 2 * 20 / 35, 3.0, 3.0]
    d = [0.0, 0.0, 2.5, 4.375, 5.0, 5.0, 5.0]
    assert found == [(round(a, 9), b) for a, b in zip(r, d, strict=True)]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "at least one"),
        (((0.0, 1.0, 2.0),), "must be pairs of finite numbers"),
        ((0.0, 1.0), "must be pairs of finite numbers"),
        ("01", "must be pairs of finite numbers"),
        (((0.0, math.nan),), "must be pairs of finite numbers"),
        (((0.0, "1"),), "must be pairs of finite numbers"),
        (((0.0, True),), "must be pairs of finite numbers"),
        (((0.5, 1.0), (0.5, 2.0)), "must ascend"),
        (((0.5, 1.0), (0.2, 2.0)), "must ascend"),
        (((0.5, 1.0), (1.5, 2.0)), "between 0 and 1"),
        (((-0.1, 1.0),), "between 0 and 1"),
    ],
    ids=str,
)
def test_what_is_no_ramp_is_refused(points: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ramp(points)


def test_equal_ramps_are_equal_however_they_were_written() -> None:
    assert Ramp([[0, 1], [1, 3]]) == Ramp(((0.0, 1.0), (1.0, 3.0)))  # type: ignore[arg-type]
