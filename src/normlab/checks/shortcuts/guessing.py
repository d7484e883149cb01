"""How well the class can be guessed from one cue alone, by a cross-validated random forest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...keyed import key, rng
from ...pages.words import percent, span
from ..image_set import ImageSet
from ..proportions import wilson
from .balanced import Rows, first_of_each
from .cues import Cue

_SAMPLE = 5000
_MOST_CLASSES = 150
_MOST_OF_A_CLASS = 1000
_LEAST_OF_A_CLASS = 10
_FOLDS = 5
_TREES = 20
_LEAF = 8
_POINTS = 0.02
_OF_CHANCE = 1 / 3
_BIG = 0.5
_AUC = 0.75
_DECIDES = 0.95


@dataclass(frozen=True)
class CueResult:
    """How well one cue alone predicts the class.

    Attributes:
        name: of the cue; ``title`` in plain words.
        outside: whether the cue is outside the object.
        seen: whether it can reach a network through the pixels.
        accuracy: balanced (the mean over classes of the share predicted correctly) and
            cross-validated. None if the cue is the same in all images or there are too few images.
        low: lower end of its 95 % interval (Wilson); ``high`` the upper end.
        chance: the accuracy of guessing blindly, 1 / classes.
        images: how many were used; ``classes`` how many classes they have.
        gives_away: classes whose images the cue ranks above others' with an area under the
            receiver operating characteristic (AUC) of 0.75 or more, and that AUC, best first.
    """

    name: str
    title: str
    outside: bool
    seen: bool
    accuracy: float | None
    low: float | None
    high: float | None
    chance: float
    images: int
    classes: int
    gives_away: tuple[tuple[str, float], ...]

    @property
    def verdict(self) -> str:
        """``shortcut``, ``association`` or ``none``."""
        if self.shortcut:
            return "shortcut"
        return "association" if self.associated else "none"

    @property
    def associated(self) -> bool:
        """Whether the interval's lower end exceeds chance by 2 points and by a third of chance."""
        margin = max(_POINTS, _OF_CHANCE * self.chance)
        return self.low is not None and self.low > self.chance + margin

    @property
    def shortcut(self) -> bool:
        """Whether it is outside the object and associated with the class, or decides one class:
        among many classes a single one hardly changes the accuracy."""
        return self.outside and (self.associated or bool(self.decided))

    @property
    def decided(self) -> tuple[str, ...]:
        """Classes that the cue tells from all others almost without error: by an AUC of 0.95."""
        return tuple(name for name, _ in self.surest)

    @property
    def surest(self) -> tuple[tuple[str, float], ...]:
        """The classes of :attr:`decided` with their AUC."""
        return tuple(pair for pair in self.gives_away if pair[1] >= _DECIDES)

    @property
    def decides_some(self) -> bool:
        """Whether a cue that may come from the object decides one of two classes, or fewer than
        half of more. What tells most classes apart is what the classes are about."""
        few = self.classes == 2 or 2 * len(self.decided) < self.classes
        return not self.outside and bool(self.decided) and few

    @property
    def big(self) -> bool:
        """Whether the interval's lower end is at least halfway from chance to 1."""
        return self.low is not None and self.low - self.chance >= _BIG * (1 - self.chance)

    def sentence(self) -> str:
        """What the cue alone tells, in words; only if it has an accuracy."""
        assert self.accuracy is not None
        assert self.low is not None
        assert self.high is not None
        return (
            f"From {self.title} alone, {percent(self.accuracy)} of the images can be assigned to "
            f"the right class (95 % interval {span(self.low, self.high)}; chance is "
            f"{percent(self.chance)})"
        )

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "cue": self.name,
            "title": self.title,
            "outside": self.outside,
            "seen": self.seen,
            "balanced_accuracy": self.accuracy,
            "interval": None if self.low is None else [self.low, self.high],
            "chance": self.chance,
            "images": self.images,
            "classes": self.classes,
            "gives_away": [{"class": name, "auc": auc} for name, auc in self.gives_away],
            "verdict": self.verdict,
        }


def sample(image_set: ImageSet) -> Rows:
    """Different images, about equally many of each class; none if fewer than two classes remain.

    Files with equal pixels count once, so that no image is in two folds.
    """
    draw = rng(0, "cues")
    order = draw.permutation(len(image_set))
    _, first = np.unique(image_set.digests[order], return_index=True)
    order = order[np.sort(first)]
    counts = np.bincount(image_set.labels[order], minlength=len(image_set.classes))
    enough = np.flatnonzero(counts >= _LEAST_OF_A_CLASS)
    chosen = draw.permutation(enough)[:_MOST_CLASSES]
    if len(chosen) < 2:
        return np.empty(0, np.int64)
    order = order[np.isin(image_set.labels[order], chosen)]
    per_class = max(min(_SAMPLE // len(chosen), _MOST_OF_A_CLASS), _LEAST_OF_A_CLASS)
    return first_of_each(order, image_set.labels, per_class)


def guessed(cue: Cue, image_set: ImageSet, rows: Rows) -> CueResult:
    """Train a forest on this cue of these rows, and test it on the folds it has not seen."""
    from sklearn.metrics import roc_auc_score

    values, labels = cue.values[rows], image_set.labels[rows]
    present, labels = np.unique(labels, return_inverse=True)
    accuracy = low = high = None
    away: list[tuple[str, float]] = []
    chance = 1 / max(len(present) or len(image_set.classes), 1)
    if len(rows) and (values != values[0]).any():
        guesses = _cross_validated(cue.name, values, labels)
        right = guesses.argmax(1) == labels
        counts = np.bincount(labels)
        accuracy = float((np.bincount(labels, weights=right) / counts).mean())
        low, high = wilson(accuracy, len(counts) ** 2 / float((1 / counts).sum()))
        away = [
            (image_set.classes[index], area)
            for code, index in enumerate(present.tolist())
            if (area := float(roc_auc_score(labels == code, guesses[:, code]))) >= _AUC
        ]
    return CueResult(
        name=cue.name,
        title=cue.title,
        outside=cue.outside,
        seen=cue.seen,
        accuracy=accuracy,
        low=low,
        high=high,
        chance=chance,
        images=len(rows),
        classes=len(present),
        gives_away=tuple(sorted(away, key=lambda pair: -pair[1])),
    )


def _cross_validated(
    name: str, values: npt.NDArray[np.float32], labels: Rows
) -> npt.NDArray[np.float64]:
    """Probabilities (n, classes) of each image, by the forest that did not see its fold.

    On 25 classes, 6,000 images and 11 cues a forest of 50 trees took 22 s, gradient boosting 190 s
    for the same or lower accuracies, a single tree 1 s for accuracies up to a quarter lower.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    seed = key("cues", name) % 2**32
    forest = RandomForestClassifier(
        _TREES, min_samples_leaf=_LEAF, class_weight="balanced", random_state=seed
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    guesses = cross_val_predict(forest, values, labels, cv=folds, method="predict_proba")
    return np.asarray(guesses, dtype=np.float64)
