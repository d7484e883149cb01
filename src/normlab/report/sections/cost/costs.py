"""What a training step of each arm takes in time and memory."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ....pages.tables import Cell, Column, Table
from ....pages.words import NO_VALUE, listed
from ....results import Results, Run, Spread
from ....runs import RUNNING
from ....runs.rule import Rule
from ...context import title
from ..scores import spread_text

MIB = 1 << 20


@dataclass(frozen=True)
class Cost:
    """What an arm's complete runs took; None where they do not tell.

    Attributes:
        arm: whose.
        accuracy: on the test images, a share of 1.
        step: time of a training step in milliseconds, one value per run.
        relative: ``step`` divided by that of the reference arm, both means.
        parameters: of the network.
        kept: bytes that autograd keeps for the backward pass of a batch.
        peak: the most bytes of tensors on a GPU during an epoch.
    """

    arm: str
    accuracy: Spread | None
    step: Spread | None
    relative: float | None
    parameters: int | None
    kept: int | None
    peak: int | None


def costs(results: Results, reference: str | None = None) -> list[Cost]:
    """One per arm, in the order asked.

    Args:
        results: the study.
        reference: the arm whose time is 1; by default the one that the study compares with, or
            the first where that is a layer of several arms.
    """
    steps = {arm: _of_steps(results, arm) for arm in results.arms}
    base = steps.get(reference or _reference(results))
    found = []
    for arm in results.arms:
        runs, step = [run for run in results.of_arm(arm) if run.complete], steps[arm]
        memory = [run.record.get("memory") or {} for run in runs]
        found.append(
            Cost(
                arm,
                results.spread(arm, "test", "accuracy"),
                step,
                step.mean / base.mean if step and base else None,
                _largest([run.record.get("parameters") for run in runs]),
                _largest([held.get("kept_for_backward") for held in memory]),
                _largest([held.get("peak") for held in memory]),
            )
        )
    return found


def step_milliseconds(run: Run) -> float | None:
    """Time of a training step of a run; None where its record does not tell.

    The seconds of training in the run's median epoch (rows ``train_running`` of history.csv,
    evaluation left out) divided by the updates of an epoch. The first epoch of a process is slower
    than the others, and one that shared the machine with something else is too.
    """
    seconds = [float(row["seconds"]) for row in run.history if row["split"] == RUNNING]
    steps, epochs = run.record.get("steps_done"), run.record.get("epochs_done")
    if not seconds or not steps or not epochs:
        return None
    value = 1000 * statistics.median(seconds) / (steps / epochs)
    return value if value > 0 else None


def notes(results: Results, reference: str | None = None) -> list[str]:
    """What a reader of the table has to know, in plain sentences."""
    reference = reference or _reference(results)
    said = [
        f"Times are as measured during the study{_side_by_side(results)}: the median epoch of a "
        "run without its evaluation."
    ]
    norms = {str(fields.get("norm", arm)) for arm, fields in results.question["arms"].items()}
    if any(norm.startswith("torch_bn") for norm in norms) and len(norms) > 1:
        said.append(
            "torch_bn is one fused operation, the other layers are written from scratch in "
            "PyTorch's operations. A difference in speed between these two kinds comes from the "
            "implementation, not from the method."
        )
    else:
        said.append(
            "A layer written from scratch and one that is a single fused operation differ in "
            "speed for reasons of implementation, not of method."
        )
    said.append(
        "Memory is what autograd keeps between the forward and the backward pass of one batch, "
        "counting each storage once and leaving out parameters and buffers."
    )
    said += _saving(results)
    found = costs(results, reference)
    peak = any(cost.peak is not None for cost in found)
    said += _dashes(results, found, reference, peak)
    if peak:
        said.append(
            "The peak is the most memory that tensors occupied on the GPU during an epoch, "
            "including images that are kept there, weights and the optimizer."
        )
    return said


def cost_table(results: Results, reference: str | None = None) -> Table:
    """One row per arm; times relative to ``reference``, by default as in :func:`costs`."""
    reference = reference or _reference(results)
    found = costs(results, reference)
    peak = any(cost.peak is not None for cost in found)
    heads = ["test accuracy (%)", "ms per step", f"time relative to {reference}",
             "parameters", "kept for backward (MiB)"]  # fmt: skip
    if peak:
        heads.append("peak on the GPU (MiB)")
    return Table(
        (Column("arm", "left"), *map(Column, heads)),
        tuple((Cell(cost.arm, "name"), *map(Cell, _cells(cost, found, peak))) for cost in found),
        title=f"{title(results)}: cost and accuracy",
        caption=f"What a training step takes, {_over(results)} of an arm",
        notes=tuple(notes(results, reference)),
    )


def _dashes(results: Results, found: list[Cost], reference: str, peak: bool) -> list[str]:
    """Why the table has dashes."""
    done = {run.arm for run in results.runs if run.complete}
    none = [cost.arm for cost in found if cost.arm not in done]
    there = [cost for cost in found if cost.arm in done]
    said = []
    if none:
        rows = "its row has" if len(none) == 1 else "their rows have"
        said.append(f"No run of {listed(none)} is complete, so {rows} only {NO_VALUE}.")
    if any(cost.step and cost.relative is None for cost in there):
        said.append(
            f"No time is relative to {reference}, because the time of its runs is not known."
        )
    if any(
        None in (cost.accuracy, cost.step, cost.parameters, cost.kept, cost.peak if peak else 0)
        for cost in there
    ):
        dash = f"Any other {NO_VALUE}" if said else NO_VALUE
        said.append(f"{dash} means that the runs of that arm did not record it.")
    return said


def _reference(results: Results) -> str:
    named = Rule.read(results.question).reference
    return named if named in results.arms else results.arms[0]


def _over(results: Results) -> str:
    many = len(results.question["seeds"]) > 1
    return f"mean{' ± sample standard deviation' if many else ''} over the runs"


def _cells(cost: Cost, found: list[Cost], peak: bool) -> list[str]:
    cells = [
        spread_text(cost.accuracy),
        _milliseconds(cost.step, found),
        NO_VALUE if cost.relative is None else f"{cost.relative:.2f} ×",
        NO_VALUE if cost.parameters is None else f"{cost.parameters:,}",
        _mebibytes(cost.kept),
    ]
    return [*cells, _mebibytes(cost.peak)] if peak else cells


def _milliseconds(spread: Spread | None, found: list[Cost]) -> str:
    """With as many digits after the point as the shortest time of the table needs."""
    if spread is None:
        return NO_VALUE
    shortest = min(cost.step.mean for cost in found if cost.step is not None)
    places = 1 if shortest >= 10 else 2
    mean = f"{spread.mean:.{places}f}"
    return mean if spread.sd is None else f"{mean} ± {spread.sd:.{places}f}"


def _mebibytes(count: int | None) -> str:
    if count is None:
        return NO_VALUE
    value = count / MIB
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _of_steps(results: Results, arm: str) -> Spread | None:
    times = [step_milliseconds(run) for run in results.of_arm(arm) if run.complete]
    return Spread.of([time for time in times if time is not None])


def _largest(values: list[Any]) -> int | None:
    there = [int(value) for value in values if value is not None]
    return max(there, default=None)


def _saving(results: Results) -> list[str]:
    """Where runs saved memory, for more time: what can be compared then."""
    saved: dict[str, set[bool]] = {}
    for run in results.runs:
        if run.complete:
            saved.setdefault(run.arm, set()).add(bool(run.record.get("save_memory")))
    on = [arm for arm, ways in saved.items() if ways == {True}]
    partly = [arm for arm, ways in saved.items() if len(ways) == 2]
    if not on and not partly:
        return []
    meaning = (
        "The outputs of bn, in, bin, ln and gn are then computed again in the backward pass, which "
        "takes less memory and more time. Other layers keep the same."
    )
    if len(on) == len(saved):
        return [f"All runs were made with --save-memory. {meaning}"]
    whose = [f"all runs of {listed(on)}"] if on else []
    whose += [f"some runs of {listed(partly)}"] if partly else []
    said = [
        f"--save-memory was on for {' and '.join(whose)}, and off for the others. {meaning} Memory "
        "and time of runs with and without it do not compare."
    ]
    if partly:
        said.append(f"The memory of {listed(partly)} is that of the run which kept most.")
    return said


def _side_by_side(results: Results) -> str:
    """ ", with 2 processes side by side", as far as the runs tell."""
    told = sorted({int(run.record.get("side_by_side") or 0) for run in results.runs} - {0})
    if not told:
        return ", whatever else the machine was doing"
    if told == [1]:
        return ", with one run at a time"
    many = str(told[0]) if len(told) == 1 else f"{told[0]} to {told[-1]}"
    return f", with {many} processes side by side"
