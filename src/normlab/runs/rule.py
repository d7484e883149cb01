"""The rule by which a study is judged, stated before its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, did_you_mean

LEAST_SEEDS = 3
"""Fewer seeds give no interval and no verdict: two know next to nothing about the spread (their t
interval may be hundreds of points wide)."""
LOOKS = (3, 5, 8, 12, 20)
"""Numbers of seeds at which a study that adds seeds until decided is looked at."""
REFERENCES = ("bn", "torch_bn")
"""Which layer the others are compared with where none is named."""


@dataclass(frozen=True)
class Rule:
    """How a study is judged.

    Attributes:
        reference: an arm; or a layer, where several arms have it: then every other arm is compared
            with the arm of that layer whose other settings are its own.
        margin: the largest difference that does not matter, as a share of 1.
        level: at which all intervals of the study hold simultaneously.
        looks: numbers of seeds fixed beforehand, for a study that adds seeds until decided; empty
            for a study that is judged once.
        before: rules stated earlier, each with the number of runs that had ended when it was
            replaced, as ``study.toml`` keeps them.
        looked: numbers of seeds with which the study could have been judged before seeds were
            added, or looks stated, without its being planned then.
        grown: numbers of arms with which it could have been judged before arms were added.
        edited: arms that could have been judged before the code of their layer was edited, once for
            each time.
        target: validation accuracy of which the report says when it was reached, as a share of 1;
            None leaves it to the report. No verdict depends on it.
        retargeted: targets stated earlier (none where there was none), each with the number of runs
            that had ended when it was replaced.
        lost: the day on which study.toml was damaged and was written anew from the runs; "" for a
            study whose history is known. What was stated, asked or looked at before is not.
    """

    reference: str
    margin: float = 0.005
    level: float = 0.95
    looks: tuple[int, ...] = ()
    before: tuple[Mapping[str, Any], ...] = ()
    looked: tuple[int, ...] = ()
    grown: tuple[int, ...] = ()
    edited: tuple[str, ...] = ()
    target: float | None = None
    retargeted: tuple[Mapping[str, Any], ...] = ()
    lost: str = ""

    def describe(self) -> dict[str, Any]:
        """For study.toml; the margin in points, the target in percent."""
        stated: dict[str, Any] = (
            {} if self.target is None else {"target": round(100 * self.target, 10)}
        )
        if self.retargeted:
            stated["retargeted"] = [dict(earlier) for earlier in self.retargeted]
        return {
            "reference": self.reference,
            "margin": round(100 * self.margin, 10),
            "level": self.level,
            "looks": list(self.looks),
            "before": [dict(stated) for stated in self.before],
            "looked": list(self.looked),
            "grown": list(self.grown),
            "edited": list(self.edited),
            **stated,
            **({"lost": self.lost} if self.lost else {}),
        }

    @classmethod
    def read(cls, question: Mapping[str, Any]) -> Rule:
        """From study.toml; the defaults for a study that states none."""
        stated = question.get("verdict", {})
        return cls(
            reference=stated.get("reference") or default_reference(question["arms"]),
            margin=stated.get("margin", 0.5) / 100,
            level=stated.get("level", 0.95),
            looks=tuple(stated.get("looks", ())),
            before=tuple(stated.get("before", ())),
            looked=tuple(stated.get("looked", ())),
            grown=tuple(stated.get("grown", ())),
            edited=tuple(stated.get("edited", ())),
            target=stated["target"] / 100 if "target" in stated else None,
            retargeted=tuple(stated.get("retargeted", ())),
            lost=str(stated.get("lost", "")),
        )


def default_reference(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The reference where none is named: bn, else torch_bn, else the first arm.

    Where several arms have one of the two layers and others have not (a grid of layers and batch
    sizes), it is that layer.
    """
    for layer in REFERENCES:
        if layer in arms:
            return layer
        having = [arm for arm, fields in arms.items() if fields.get("norm", arm) == layer]
        if having and len(having) < len(arms):
            return layer if len(having) > 1 else having[0]
    return next(iter(arms))


def pairs(arms: Mapping[str, Mapping[str, Any]], reference: str) -> list[tuple[str, str]]:
    """What is compared: (reference, arm) for every arm that has a reference.

    Args:
        arms: name to the fields that vary, as in study.toml.
        reference: see :class:`Rule`.

    Raises:
        InputError: the reference is neither an arm nor a layer of one.

    >>> pairs({"bn": {"norm": "bn"}, "gn": {"norm": "gn"}, "none": {"norm": "none"}}, "bn")
    [('bn', 'gn'), ('bn', 'none')]
    """
    if reference in arms:
        return [(reference, arm) for arm in arms if arm != reference]
    having = {_others(fields): arm for arm, fields in arms.items()
              if fields.get("norm") == reference}  # fmt: skip
    if not having:
        layers = dict.fromkeys(str(fields.get("norm", arm)) for arm, fields in arms.items())
        known = [*arms, *layers]
        raise InputError(
            f"The reference {reference!r} is not an arm of this study"
            f"{did_you_mean(reference, known)}. The arms are {', '.join(arms)}."
        )
    return [
        (having[_others(fields)], arm)
        for arm, fields in arms.items()
        if fields.get("norm") != reference and _others(fields) in having
    ]


def checked_margin(points: Any) -> float:
    """A margin in points as a share of 1.

    Raises:
        InputError: it is not a number above 0 and below 100.

    >>> checked_margin(0.5)
    0.005
    """
    if isinstance(points, bool) or not isinstance(points, (int, float)) or not 0 < points < 100:
        raise InputError(
            f"margin must be a number of points above 0 and below 100, got {points!r}."
        )
    return float(points) / 100


def checked_target(percent: Any) -> float:
    """A target in percent as a share of 1.

    Raises:
        InputError: it is not a number above 0 and at most 100.

    >>> checked_target(80)
    0.8
    """
    wrong = isinstance(percent, bool) or not isinstance(percent, (int, float))
    if wrong or not 0 < percent <= 100:
        raise InputError(
            "target must be a validation accuracy in percent, above 0 and at most 100, got "
            f"{percent!r}."
        )
    return float(percent) / 100


def looks_up_to(most: int | None, folds: int = 1) -> tuple[int, ...]:
    """The looks of a study that adds seeds until decided: :data:`LOOKS`, or those up to ``most``,
    with ``most`` itself the last. With folds, each look is at the next multiple of their number, so
    that every image has been tested equally often.

    Raises:
        InputError: fewer seeds than have a spread.

    >>> looks_up_to(None), looks_up_to(10)
    ((3, 5, 8, 12, 20), (3, 5, 8, 10))
    >>> looks_up_to(None, folds=5)
    (5, 10, 15, 20)
    """
    looks = tuple(dict.fromkeys(-(-look // folds) * folds for look in LOOKS))
    if most is None:
        return looks
    if most < LEAST_SEEDS:
        raise InputError(
            f"--until-decided needs at least {LEAST_SEEDS} seeds for a verdict, got --seeds {most}."
        )
    return (*(look for look in looks if look < most), most)


def _others(fields: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    kept: Iterable[tuple[str, Any]] = ((k, v) for k, v in fields.items() if k != "norm")
    return tuple(sorted((k, str(v)) for k, v in kept))
