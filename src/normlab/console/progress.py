"""What a terminal shows while work goes on: progress bars, or plain lines without a terminal."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .. import stopping
from ..pages.words import counted, duration, listed, seeds_between, visible
from ..runs.title import shown_title

if TYPE_CHECKING:
    from ..studies import Plan, RunProgress
    from ..training import Progress as RunStanding
    from ..workflow import Estimate

PLAIN_EVERY = 20.0
"""Seconds between plain lines about runs under way."""


class StageWatcher:
    """Tells about stages of work on a console. Use as a context manager: it owns the bars."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: Progress | None = None
        self._reading: TaskID | None = None
        self._spoke = time.monotonic()
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        self._ending.enter_context(stopping.at_once(self._show_cursor))
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._ending.close()

    def reading(self, stage: str, done: int, total: int) -> None:
        if not self.console.is_terminal:
            if done in (0, total) or time.monotonic() - self._spoke >= PLAIN_EVERY:
                self._say(f"{stage}: {done:,} of {total:,}")
            return
        bars = self._open()
        if self._reading is None:
            self._reading = bars.add_task(stage, total=total)
        bars.update(self._reading, description=stage, completed=done, total=total)
        if done >= total:
            self._close()

    def _show_cursor(self) -> None:
        """Bars hide the cursor; written at once, since whoever is writing may never go on."""
        if self.console.is_terminal:
            os.write(self.console.file.fileno(), b"\x1b[?25h\r\n")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        self.console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    def _open(self) -> Progress:
        if self._bars is None:
            self._bars = progress_bars(self.console)
            self._bars.start()
        return self._bars

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._reading = None


class ConsoleWatcher(StageWatcher):
    """Tells about a comparison: the stages of reading, the plan, then the runs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._overall: TaskID | None = None
        self._lines: dict[str, TaskID] = {}
        self._notes: set[tuple[str, str]] = set()
        self._runs = self._ended = self._steps = 0
        self._earlier: dict[str, int] = {}
        self._began = time.monotonic()

    def planned(self, plan: Plan, data: dict[str, Any], folder: Path, estimate: Estimate) -> None:
        self._close()
        images = ", ".join(f"{count:,} {name}" for name, count in data["images"].items())
        if folds := data.get("folds"):
            images = f"{folds['images']:,} images in {folds['number']} folds, of seed 0 {images}"
        size, channels = data["image_size"], data["channels"]
        first = next(iter(plan.arms.values()))
        made = f", {estimate.already} complete" if estimate.already else ""
        more = f" and up to {estimate.added} more at later looks" if estimate.added else ""
        without = " until the next look" if estimate.added else ""
        facts = [
            ("Data", f"{data['name']}: {len(data['classes'])} classes, {images}; "
                     f"{size}x{size}x{channels}"),
            ("Arms", ", ".join(plan.arms)),
            ("Recipe", recipe(plan.base)),
            *((("Layers", plan.kernels_note),) if plan.kernels_note else ()),
            ("Network", "varies by arm" if {"n", "model"} & {*plan.varied} else first.network),
            ("Runs", f"{estimate.runs} to run ({counted(len(plan.arms), 'arm')}, "
                     f"{seeds_between(*plan.seed_counts)}{made}){more}, "
                     f"{estimate.workers} side by side on {first.device}"),
            *(_rule_facts(plan, estimate)),
            *((("Checks", f"is {two} the same function as {one}?") for one, two in plan.twins)),
            ("Time", f"about {duration(estimate.seconds)}{without}"
                     if estimate.runs or estimate.trials
                     else f"none{without}" if estimate.added
                     else "none: every run is complete"),
            ("Folder", str(folder)),
            *(("Note", note) for note in data["notes"]),
            *(("Finding", f"{found['level']}: {found['sentence']}")
              for found in data["findings"] if found["level"] != "fine"),
        ]  # fmt: skip
        self._say(shown_title(plan.title, plan.what, plan.points))
        if not self.console.is_terminal:
            for label, text in facts:
                self._say(f"{label:<9}{text}")
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        for label, text in facts:
            grid.add_row(label, Text(visible(text)))
        self.console.print(grid)

    def stage(self, text: str) -> None:
        self._close()
        self._say(text)

    def started(self, runs: int, steps: int) -> None:
        self._close()
        self._ended, self._earlier = 0, {}
        self._runs, self._steps, self._began = runs, steps, time.monotonic()
        if self.console.is_terminal:
            self._overall = self._open().add_task(f"0 of {runs} runs", total=steps)

    def advanced(self, steps: int, active: list[RunProgress]) -> None:
        for name, note in ((run.name, note) for run in active for note in run.progress.notes):
            if (name, note) not in self._notes:
                self._notes.add((name, note))
                self._say(f"{name}: {note}")
        for run in active:  # a run that resumes has steps that took no time of this call
            self._earlier.setdefault(run.name, run.progress.step)
        if not self.console.is_terminal:
            if time.monotonic() - self._spoke >= PLAIN_EVERY:
                left = self._remaining(steps)
                self._say(
                    f"{self._ended} of {self._runs} runs, {steps:,} of {self._steps:,} steps{left}"
                    + "".join(f"; {describe_run(run)}" for run in active)
                )
            return
        bars = self._open()
        assert self._overall is not None
        bars.update(self._overall, completed=steps)
        names = {run.name for run in active}
        for name in set(self._lines) - names:
            bars.remove_task(self._lines.pop(name))
        for run in active:
            if run.name not in self._lines:
                self._lines[run.name] = bars.add_task(run.name, total=run.progress.steps)
            bars.update(
                self._lines[run.name],
                completed=run.progress.step,
                description=_plain(describe_run(run)),
            )

    def finished(self, arm: str, seed: int, record: dict[str, Any]) -> None:
        self._ended += 1
        name = f"{arm} seed {seed}"
        outcome = record["status"]
        if record["metrics"]:
            outcome = (
                f"validation {100 * record['metrics']['val']['accuracy']:.1f} % "
                f"(epoch {record['chosen_epoch']}), {duration(record['seconds'])}"
            )
        if self._bars is not None and self._overall is not None:
            if name in self._lines:
                self._bars.remove_task(self._lines.pop(name))
            self._bars.update(self._overall, description=f"{self._ended} of {self._runs} runs")
        self._say(f"[{self._ended}/{self._runs}] {name}: {outcome}")

    def warned(self, text: str) -> None:
        self._say(text)

    def _remaining(self, steps: int) -> str:
        made = steps - sum(self._earlier.values())
        if made <= 0:
            return ""
        passed = time.monotonic() - self._began
        return f", about {duration(passed * (self._steps - steps) / made)} left"

    def _close(self) -> None:
        super()._close()
        self._overall = None
        self._lines = {}


class RunWatcher(StageWatcher):
    """Tells about a single run: the stages of reading, then its steps."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._task: TaskID | None = None
        self._told = 0.0
        self._notes = 0

    def advanced(self, at: RunStanding) -> None:
        for note in at.notes[self._notes :]:
            self._say(note)
        self._notes = len(at.notes)
        line = describe_progress(at)
        if not self.console.is_terminal:
            if at.step == at.steps or at.step - self._told >= at.steps / 10:
                self._told = at.step
                self._say(f"{line}  step {at.step}/{at.steps}")
            return
        bars = self._open()
        if self._task is None:
            self._task = bars.add_task(line, total=at.steps)
        bars.update(self._task, description=line, completed=at.step)


def _rule_facts(plan: Plan, estimate: Estimate) -> list[tuple[str, str]]:
    """How the study is judged, and what is tuned."""
    found = []
    if len(plan.arms) > 1:
        rule = plan.rule
        looks = (
            f"; looks at {listed([str(look) for look in rule.looks])} seeds until all is decided"
            if plan.until_decided
            else ""
        )
        found.append(
            (
                "Verdict",
                f"compared with {rule.reference}, margin {100 * rule.margin:g} points{looks}",
            )
        )
    if estimate.tuned:
        found.append(
            (
                "Tuning",
                f"{counted(estimate.trials, 'trial')} to run (more if the grid grows), then "
                f"{counted(estimate.tuned, 'run')} at the chosen values, less those "
                "already complete",
            )
        )
    return found


def progress_bars(console: Console) -> Progress:
    """Bars that vanish when the work is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def describe_run(run: RunProgress) -> str:
    """A run under way in a line: epoch, loss, speed."""
    at = run.progress
    if not at.images_per_second:  # a check, which trains in pairs
        return f"{run.name}  step {at.step}/{at.steps}"
    return f"{run.name}  {describe_progress(at)}"


def describe_progress(at: RunStanding) -> str:
    """Epoch, loss, speed."""
    return f"epoch {at.epoch}/{at.epochs}  loss {at.loss:.3f}  {at.images_per_second:,.0f} images/s"


def recipe(fields: dict[str, Any]) -> str:
    """The fields that decide training, in a line."""
    parts = []
    if "optimizer" in fields:
        name = {"sgd": "SGD", "adamw": "AdamW"}[fields["optimizer"]]
        momentum = f" momentum {fields['momentum']:g}" if fields.get("momentum") else ""
        nesterov = " (Nesterov)" if fields.get("nesterov") else ""
        parts.append(f"{name}{momentum}{nesterov}")
    for name, label in (("lr", "learning rate"), ("schedule", "schedule")):
        if name in fields:
            shown = f"{fields[name]:g}" if name == "lr" else fields[name]
            parts.append(f"{label} {shown}")
    for name, label in (("weight_decay", "weight decay"), ("warmup", "warm-up share")):
        if fields.get(name):
            parts.append(f"{label} {fields[name]:g}")
    if fields.get("schedule") == "step" and "step_at" in fields and "step_factor" in fields:
        at = listed(f"{share:g}" for share in fields["step_at"])
        parts.append(f"rate times {fields['step_factor']:g} at {at} of the run")
    if fields.get("decay_all") and fields.get("weight_decay", True):
        parts.append("normalization parameters and biases decay too")
    for name, label in (("batch_size", "batch"), ("epochs", "epochs")):
        if name in fields:
            parts.append(f"{label} {fields[name]}")
    if fields.get("accumulate", 1) > 1:
        parts.append(f"{fields['accumulate']} batches per update")
    if fields.get("budget") == "updates":
        parts.append(
            f"equal updates (an epoch: one pass in batches of {fields['reference_batch']})"
        )
    if fields.get("lr_scaling", "none") != "none":
        of = f", from {fields['reference_batch']}" if "reference_batch" in fields else ""
        parts.append(f"rate scaled with the batch ({fields['lr_scaling']}{of})")
    if fields.get("patience"):
        parts.append(f"patience {fields['patience']}")
    if fields.get("label_smoothing"):
        parts.append(f"label smoothing {fields['label_smoothing']:g}")
    if fields.get("balance", "none") != "none":
        parts.append(f"classes balanced by {fields['balance']}")
    if fields.get("clip_norm"):
        parts.append(f"gradient norm at most {fields['clip_norm']:g}")
    if fields.get("weights"):
        start = f" ({fields['start']})" if "start" in fields else ""
        parts.append(f"from {fields['weights']}{start}")
    if fields.get("freeze_to"):
        parts.append(f"frozen up to {fields['freeze_to']}")
    if fields.get("head_lr"):
        parts.append(f"learning rate of the classifier {fields['head_lr']:g}")
    if fields.get("precision", "float32") != "float32":
        parts.append(str(fields["precision"]))
    if fields.get("kernels", "torch") != "torch":
        parts.append(f"{fields['kernels']} layers")
    augmented = [
        text
        for text in (
            f"crop {fields['crop_pad']}" if fields.get("crop_pad") else "",
            "flip" if fields.get("flip") else "",
        )
        if text
    ]
    parts.append("augmentation " + " and ".join(augmented) if augmented else "no augmentation")
    return ", ".join(parts)


def _plain(text: str) -> str:
    """Text in which rich sees no markup."""
    from rich.markup import escape

    return escape(visible(text))
