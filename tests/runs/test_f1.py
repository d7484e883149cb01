"""F1 and confusion are those of scikit-learn, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from normlab.runs.f1 import class_f1, confusion, micro_f1
from normlab.training.metrics import measure


@pytest.mark.parametrize("classes", [2, 3, 10, 25])
@pytest.mark.parametrize("images", [1, 7, 400])
def test_scores_are_those_of_scikit_learn(classes: int, images: int) -> None:
    generator = np.random.default_rng(100 * classes + images)
    every, absent = range(classes), 0
    for _ in range(6):
        # Classes that are only labels, only predicted, or neither.
        labels, predicted = (
            generator.choice(generator.choice(classes, size=max(1, classes - 1)), size=images)
            for _ in range(2)
        )
        absent += len(set(every) - {*labels, *predicted})

        def theirs(average: str | None, y: object = labels, guess: object = predicted) -> object:
            return f1_score(y, guess, labels=every, average=average, zero_division=0)

        assert class_f1(labels, predicted, classes).tolist() == list(theirs(None))  # type: ignore[call-overload]
        assert micro_f1(labels, predicted) == theirs("micro")
        assert measure(labels, predicted, 0.0, classes).macro_f1 == theirs("macro")
        expected = confusion_matrix(labels, predicted, labels=every)
        assert confusion(labels, predicted, classes).tolist() == expected.tolist()
    assert absent  # of the six cases, some leave classes out


def test_nothing_predicted_right_is_a_score_of_zero() -> None:
    labels, predicted = np.array([0, 1]), np.array([1, 0])
    assert class_f1(labels, predicted, 3).tolist() == [0.0, 0.0, 0.0]
    assert micro_f1(labels, predicted) == 0.0
