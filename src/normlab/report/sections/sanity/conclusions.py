"""Bug or noise: what the check ``same-function`` and the trained models say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE, listed, spelled
from ....results import Results
from ....results.statistics import Difference, paired_difference
from ....runs.rule import LEAST_SEEDS
from ....runs.same_function import BOUND, BOUND_BFLOAT16, SameFunction
from ....runs.schema import QUANTITIES

SURE = 0.95
"""Level of the intervals."""
CHANCE = 0.99
"""An interval at this level that excludes 0 is not put down to chance."""


@dataclass(frozen=True)
class Conclusion:
    """What is said of one arm.

    Attributes:
        arm, reference: the two layers compared.
        outcome: ``noise`` or ``bug``, whichever the evidence supports, or ``undecided``.
        function: is it the same function?
        trained: are the trained models alike?
        conclusion: which of bug and noise the evidence supports.
        table: of each quantity the largest difference in float64, where it was, the step from
            which it was above the bound, and the largest difference in float32 after one step;
            None where nothing could be compared.
    """

    arm: str
    reference: str
    outcome: Literal["noise", "bug", "undecided"]
    function: str
    trained: tuple[str, ...]
    conclusion: str
    table: Table | None


def conclusions(results: Results) -> list[Conclusion]:
    """One for every arm that was compared with a reference."""
    return [_conclude(results, found) for found in results.checks]


OUTCOMES: Mapping[str, Literal["noise", "bug", "undecided"]] = {
    "same": "noise", "different": "bug", "undecided": "undecided",
}  # fmt: skip
HEADS = (
    "quantity", "largest difference (float64)", "where", "above the bound from",
    "difference after one step (float32)",
)  # fmt: skip


def _conclude(results: Results, found: SameFunction) -> Conclusion:
    differences = [
        (name, paired_difference(results, found.arm, found.reference, split=split))
        for split, name in (("val", "validation"), ("test", "test"))
    ]
    trained = [_trained(found, name, difference) for name, difference in differences if difference]
    at_test = differences[-1][1]
    outcome = OUTCOMES[found.outcome]
    if outcome == "noise" and _beyond_chance(at_test):
        outcome = "undecided"
    return Conclusion(
        found.arm,
        found.reference,
        outcome,
        _function(found),
        tuple(trained) or ("No seed was completed by both arms.",),
        _conclusion(found, at_test),
        _table(found),
    )


def _table(found: SameFunction) -> Table | None:
    rows = tuple(_row(found, name) for name in QUANTITIES if name in found.largest)
    if not rows:
        return None
    return Table(
        tuple(Column(head, "left") for head in HEADS),
        rows,
        caption="Largest differences, divided by the quantity’s largest value where that is "
        "above 1. Loss and gradients are of each training step, the rest is measured after it.",
    )


def _row(found: SameFunction, quantity: str) -> tuple[Cell, ...]:
    largest = found.largest[quantity]
    over = largest.first_over
    return (
        Cell(quantity, "text"),
        Cell(f"{largest.difference:.1e}"),
        Cell(f"{largest.where}, step {largest.step}", "text"),
        Cell("never" if over is None else f"step {over}", "text"),
        Cell(f"{found.float32[quantity]:.1e}" if quantity in found.float32 else NO_VALUE),
    )


def _function(found: SameFunction) -> str:
    if found.mismatch:
        return (
            f"{found.arm} and {found.reference} could not be compared: {found.mismatch}. Layers "
            "can be compared if their parameters have the same names and shapes (weight, bias) "
            "and they accept float64. If only the names differ, rename them; if one has what the "
            "other lacks, they are different functions."
        )
    how = (
        f"In {found.steps} training steps in float64, each from the same weights on the same "
        f"batch, {found.arm} and {found.reference}"
    )
    if found.differing and found.coarse and not found.differing_float32:
        return (
            f"{how} differ by {_largest(found):.1e}. But {found.arm} computes in less than float64 "
            "whatever its input, so this may be its rounding, and float64 cannot decide. In "
            f"float32 the two agree after one step to {max(found.float32.values()):.1e}."
            + (f" {_in_bfloat16(found)}" if found.bfloat16 else "")
        )
    if found.differing:
        named = found.differing[0]
        return (
            f"{how} differ: {listed(found.differing)} by more than {BOUND:g}, first at step "
            f"{found.largest[named].first_over}. {_hint(found)}"
        )
    compared = listed([name for name in QUANTITIES if name in found.largest])
    ended = " (after which the reference diverged)" if found.diverged else ""
    agree = (
        f"{how}{ended} differ by at most {_largest(found):.1e} in {compared}; the bound is "
        f"{BOUND:g}. That is rounding."
    )
    if found.differing_float32:
        apart = listed([f"{name} by {found.float32[name]:.1e}" for name in found.differing_float32])
        return (
            f"{agree} Yet in float32 they differ after one step by more than rounding: {apart}. "
            "The layer computes something else in float32."
        )
    if found.bfloat16 and found.outcome != "same":
        return f"{agree} {_in_bfloat16(found)}"
    if found.bfloat16:
        agree = f"{agree} {_in_bfloat16(found)}"
    if "buffers" not in found.largest:
        return (
            f"{agree} They have no buffers of the same name to compare; the evaluation logits "
            "stand in for them. They are the same function."
        )
    return f"{agree} They are the same function."


def _in_bfloat16(found: SameFunction) -> str:
    """What was found in the precision that the study trains in."""
    start = "In bfloat16, in which this study trains,"
    told = listed([f"{name} by {found.bfloat16[name]:.1f}" for name in found.coarse_bfloat16])
    times = "times what rounding, or the reference’s own rounding, explains"
    if found.differing_bfloat16:
        return (
            f"Yet {start[0].lower()}{start[1:]} {found.arm} is further from the exact result than "
            f"rounding: {told} {times}. The layer computes something else in bfloat16."
        )
    if found.coarse_bfloat16:
        return (
            f"{start} {found.arm} is less exact than {found.reference}: {told} {times}. A layer "
            "that rounds after every operation can be that coarse, and a small fault too. Compute "
            "statistics in float32 to decide it."
        )
    return (
        f"{start} it is as exact as rounding allows at every site (largest error "
        f"{max(found.bfloat16.values()):.1f} {times}; the bound is {BOUND_BFLOAT16:g})."
    )


def _largest(found: SameFunction) -> float:
    return max((largest.difference for largest in found.largest.values()), default=0.0)


def _hint(found: SameFunction) -> str:
    """Where to look, from which quantities differ in the first step of training."""
    early = {name for name in found.differing if (found.largest[name].first_over or 0) <= 1}
    if set(found.differing) <= {"buffers", "evaluation logits"}:
        return (
            "Loss, gradients and weights agree throughout, so training is right. The running "
            "statistics, or their use in evaluation, are wrong. Check the direction of the "
            "momentum, and biased against unbiased variance."
        )
    if "loss" in early:
        return (
            "The loss differs from the first step on, so the forward pass in training mode "
            "differs. Check eps and its place, the variance, and the affine part."
        )
    if "gradients" in early:
        return "The first loss agrees and its gradients do not. Check the backward pass."
    return (
        "The first step agrees and a later one does not. Check what the layer keeps from step to "
        "step."
    )


def _trained(found: SameFunction, split: str, difference: Difference) -> str:
    points = 100 * difference.mean
    seeds = len(difference.seeds)
    apart = f"{abs(points):.2f} points {'above' if points >= 0 else 'below'}"
    start = (
        f"Seed for seed, {split} accuracy of {found.arm} is "
        f"{'equal to' if abs(points) < 0.005 else apart} that of {found.reference}"
    )
    interval = difference.interval(SURE)
    if interval is None:
        over = "in the only seed" if seeds == 1 else f"on average over {seeds} seeds"
        return f"{start} {over}. {spelled(LEAST_SEEDS).capitalize()} seeds would give an interval."
    told = "this could be chance" if 0 in interval else "the interval excludes 0"
    return (
        f"{start} on average over {seeds} seeds, {100 * SURE:.0f} % t interval "
        f"[{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]: {told}."
    )


def _beyond_chance(difference: Difference | None) -> bool:
    interval = difference.interval(CHANCE) if difference else None
    return interval is not None and 0 not in interval


def _conclusion(found: SameFunction, at_test: Difference | None) -> str:
    interval = at_test.interval(SURE) if at_test else None
    told_apart = None if interval is None else 0 not in interval
    if found.outcome == "undecided":
        return (
            "The evidence is undecided: whether the layers are the same function could not be "
            "tested properly."
        )
    if found.outcome == "same" and _beyond_chance(at_test):
        return (
            "The evidence contradicts itself: the check found the same function, yet the trained "
            "models differ by more than chance explains (less than one study in a hundred). "
            "Something differs that the check does not see: what a layer does after the steps "
            "compared, on other input, or with other settings. Find that before you use the layer."
        )
    if found.outcome == "same":
        more = (
            " The interval excludes 0, but not by far: one of twenty such studies shows that by "
            "chance alone. More seeds would tell."
            if told_apart
            else ""
        )
        return (
            "The evidence supports noise, not a bug: the layers are the same function, so the "
            "trained models differ only because training amplifies rounding."
            f"{more}"
        )
    more = (
        " The accuracies of the trained models do not show it: judged by them alone, it would "
        "have been called noise."
        if told_apart is False
        else ""
    )
    return (
        "Rounding cannot explain the difference. If the two were meant to be the same function, "
        f"the evidence supports a bug.{more}"
    )


__all__ = ["Conclusion", "conclusions"]
