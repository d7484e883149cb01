"""The reference itself, on numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from normlab.norms import CATALOG

from . import reference

SHAPE = (2, 4, 3, 5)


@pytest.mark.parametrize(
    ("axes", "sets"),
    [("NHW", 4), ("HW", 2 * 4), ("CHW", 2), ("(C/G)HW", 2 * 2), ("C", 2 * 3 * 5), ("NCHW", 1)],
)
def test_sets_cut_the_values_into_equal_parts(axes: str, sets: int) -> None:
    found = reference.statistic_sets(axes, SHAPE, groups=2)
    assert len(found) == sets
    assert {len(indices) for indices in found.values()} == {np.prod(SHAPE) // sets}
    everything = [index for indices in found.values() for index in indices]
    assert len(everything) == len(set(everything)) == np.prod(SHAPE)


def test_groups_are_neighbors() -> None:
    found = reference.statistic_sets("(C/G)HW", (1, 4, 1, 1), groups=2)
    assert found == {(0, 0): [(0, 0, 0, 0), (0, 1, 0, 0)], (0, 1): [(0, 2, 0, 0), (0, 3, 0, 0)]}


# Two images of two channels of two pixels.
X = np.array([[[[1.0, 3.0]], [[10.0, 10.0]]], [[[5.0, 7.0]], [[30.0, 50.0]]]])


@pytest.mark.parametrize(
    ("name", "means", "variances"),
    [
        ("bn", [4.0, 25.0], [5.0, 275.0]),
        ("in", [2.0, 10.0, 6.0, 40.0], [1.0, 0.0, 1.0, 100.0]),
        ("ln", [6.0, 23.0], [16.5, 339.5]),
    ],
)
def test_moments_by_hand(name: str, means: list[float], variances: list[float]) -> None:
    found = reference.moments(CATALOG[name].axes[0], X)
    assert [m.mean for m in found.values()] == means
    assert [m.variance("n") for m in found.values()] == variances
    count = X.size // len(means)
    unbiased = [v * count / (count - 1) for v in variances]
    assert [m.variance("n - 1") for m in found.values()] == pytest.approx(unbiased)


def test_outputs_by_hand() -> None:
    """Without eps a map of two different values becomes -1 and 1."""
    state = {"weight": np.array([2.0, 1.0]), "bias": np.array([0.5, 0.0])}
    y = reference.forward(CATALOG["in"], X[1:], state, eps=0.0)
    assert y.tolist() == [[[[-1.5, 2.5]], [[-1.0, 1.0]]]]
    state |= {"running_mean": np.array([1.0, 10.0]), "running_var": np.array([4.0, 100.0])}
    y = reference.forward(CATALOG["bn"], X[1:], state, eps=0.0, training=False)
    assert y.tolist() == [[[[4.5, 6.5]], [[2.0, 4.0]]]]
    state["gate"] = np.array([0.25, 1.0])
    y = reference.forward(CATALOG["bin"], X[1:], state, eps=0.0, training=False)
    # Channel 0: 2 * (0.25 * [2, 3] + 0.75 * [-1, 1]) + 0.5.
    assert y.tolist() == [[[[0.0, 3.5]], [[2.0, 4.0]]]]


@pytest.mark.parametrize(
    ("momentum", "mean", "var"),
    [
        (0.5, [0.25 * 8 + 0.75 * 4, 0.25 * 8 + 0.75 * 25], [0.25 + 0.75 * 20 / 3, 0.25 + 275.0]),
        (None, [4.0, 25.0], [20 / 3, 1100 / 3]),
    ],
)
def test_moving_average_by_hand(
    momentum: float | None, mean: list[float], var: list[float]
) -> None:
    """The same batch twice: the start keeps a quarter, or nothing."""
    start = np.array([8.0, 8.0]), np.array([1.0, 1.0])
    found = reference.moving_average(CATALOG["bn"], [X, X], *start, momentum)
    assert found[0].tolist() == pytest.approx(mean)
    assert found[1].tolist() == pytest.approx(var)
