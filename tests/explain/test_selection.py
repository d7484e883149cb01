"""Which images a gallery shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from normlab.errors import InputError
from normlab.explain.selection import Selection, choose

CLASSES = ("Cat", "Dog", "Hoopoe")


def _split(rows: list[tuple[str, int, int, float]]) -> dict[str, Any]:
    """(name, label, predicted, confidence) to what choose takes."""
    probabilities = np.empty((len(rows), 3))
    for row, (_, _, predicted, confidence) in enumerate(rows):
        probabilities[row] = (1 - confidence) / 2
        probabilities[row, predicted] = confidence
    return {
        "names": [name for name, *_ in rows],
        "labels": np.array([label for _, label, *_ in rows]),
        "probabilities": probabilities,
        "classes": CLASSES,
    }


ROWS = [
    ("a", 0, 0, 0.60), ("b", 0, 0, 0.90), ("c", 0, 0, 0.70), ("d", 0, 0, 0.80), ("e", 0, 0, 0.50),
    ("f", 0, 1, 0.55), ("g", 0, 2, 0.95), ("h", 0, 1, 0.75),
    ("i", 1, 1, 0.99), ("j", 1, 0, 0.99),
    ("k", 2, 2, 0.70), ("l", 2, 2, 0.70), ("m", 2, 2, 0.70), ("n", 2, 0, 0.6), ("o", 2, 1, 0.6),
]  # fmt: skip


def _told(selection: Selection, label: int) -> list[tuple[str, str, str, int]]:
    return [
        (one.name, one.kind, one.end, one.rank) for one in selection.images if one.label == label
    ]


def test_rights_alternate_between_the_ends_and_wrongs_go_from_the_top() -> None:
    selection = choose(**_split(ROWS), right=5, wrong=3)
    assert _told(selection, 0) == [
        ("b", "right", "most", 1),
        ("e", "right", "least", 1),
        ("d", "right", "most", 2),
        ("a", "right", "least", 2),
        ("c", "right", "most", 3),
        ("g", "wrong", "most", 1),
        ("h", "wrong", "most", 2),
        ("f", "wrong", "most", 3),
    ]
    assert 0 not in selection.short
    assert [one.place for one in selection.images if one.label == 0] == [1, 2, 3, 4, 5, 1, 2, 3]
    fewer = choose(**_split(ROWS), right=3, wrong=1)
    assert [one.name for one in fewer.images if one.label == 0] == ["b", "e", "d", "g"]


def test_ties_go_by_name_and_no_image_comes_twice() -> None:
    selection = choose(**_split(ROWS), right=5, wrong=5)
    assert [name for name, *_ in _told(selection, 2)] == ["k", "l", "m", "n", "o"]
    assert len({one.name for one in selection.images}) == len(selection.images) == len(ROWS)


def test_the_order_of_the_split_does_not_matter() -> None:
    told = [(one.name, one.kind, one.place) for one in choose(**_split(ROWS)).images]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(ROWS))
        shuffled = choose(**_split([ROWS[row] for row in order]))
        assert [(one.name, one.kind, one.place) for one in shuffled.images] == told
        for one in shuffled.images:
            assert ROWS[order[one.row]][0] == one.name


def test_says_where_there_are_fewer_than_asked() -> None:
    selection = choose(**_split(ROWS), right=5, wrong=2)
    assert selection.short == {
        1: "Fewer images than asked for: 1 right instead of 5, 1 wrong instead of 2.",
        2: "Fewer images than asked for: 3 right instead of 5.",
    }
    nothing = choose(**_split(ROWS[:5]), asked=["Dog"], right=1, wrong=1)
    assert nothing.images == ()
    said = "Fewer images than asked for: none right instead of 1, none wrong instead of 1."
    assert nothing.short == {1: said}


def test_classes_are_shown_in_the_order_asked() -> None:
    selection = choose(**_split(ROWS), asked=["Hoopoe", "Cat"], right=1, wrong=0)
    assert selection.classes == (2, 0)
    assert [one.name for one in selection.images] == ["k", "b"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"asked": ["hopoe"]}, "did you mean Hoopoe"),
        ({"asked": ["Dog", "Dog"]}, "named twice"),
        ({"asked": []}, "at least one"),
        ({"right": -1}, "right must be a whole number of at least 0, got -1"),
        ({"right": 0, "wrong": 0}, "nothing to show"),
    ],
)
def test_refuses_what_cannot_be(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose(**_split(ROWS), **asked)
