"""What the records of a study and of its runs may say, declared in one place.

A study or a run may come from a stranger, so its records are checked when they are read: whoever
uses them afterwards need not ask again whether a share is a number. Fields that this version does
not know pass, since a later one may have added them; settings of a run do not, since one that is
not known may have changed what a run did.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..splits import SPLITS
from .arms import MOST_ARMS, MOST_RUNS, MOST_SEEDS, check_arms
from .config import FIELDS, MOST_EPOCHS, MOST_SEED, RunConfig
from .layout import file_name
from .metrics import METRICS, RUNNING
from .rule import Rule, pairs
from .shapes import (
    LONG,
    MANY,
    SHORT,
    MismatchError,
    Shape,
    any_number,
    any_of,
    anything,
    check,
    entries,
    fields,
    flag,
    items,
    magnitude,
    matching,
    number,
    one_of,
    optional,
    text,
    unfit,
    whole,
    within,
)

_STATUS = r"complete|interrupted|diverged at step \d{1,15}|failed(?s:.{0,10000})"
_ROW_BYTES = 400
"""A row of numbers in full precision has fewer than 200."""
ROWS = (RUNNING, "val")
"""What history.csv has a row of in each epoch."""
_LEVELS = ("fine", "look at this", "this invalidates your numbers")

_name, _short, _count = text(SHORT), text(SHORT), whole()
_seed = whole(0, MOST_SEED)
_seeds = items(_seed, MOST_SEEDS, 1, different=True)
_share = number(0, 1)
_field = one_of(*FIELDS)
_setting: Shape = any_of(
    "text, a number, true, false or a list of numbers",
    text(SHORT), flag, any_number, optional(items(number(), 1000)),
)  # fmt: skip
_asked_data = entries(
    any_of("text, a number, true or false", text(LONG), flag, optional(any_number))
)

QUESTION = fields(
    {
        "arms": entries(entries(_setting, key=_field), MOST_ARMS),
        "seeds": _seeds,
        "varied": items(_field, len(FIELDS), different=True),
        "data": _asked_data,
        "run": entries(_setting, key=_field),
    },
    {
        "what": _name,
        "title": _name,
        "normlab": _name,
        "command": text(LONG),
        "commands": items(text(LONG), 10_000),
        "same_function": items(items(_name, 2, 2), MOST_ARMS),
        "fewer_seeds": entries(whole(1, MOST_SEEDS), MOST_ARMS),
        "verdict": fields(
            {},
            {
                "reference": _name,
                "margin": number(0, 100, open=True),
                "level": number(0, 1, open=True),
                "looks": items(whole(1, MOST_SEEDS), 100, different=True),
                "before": items(
                    fields({"reference": _name, "margin": number(0, 100), "runs": _count}), 1000
                ),
                "looked": items(_count, 1000),
                "grown": items(_count, 1000),
                "edited": items(_name, 1000),
                "target": number(0, 100),
                "retargeted": items(fields({"runs": _count}, {"target": number(0, 100)}), 1000),
            },
        ),
        "tuning": items(
            fields(
                {
                    "field": _field,
                    "shared": _short,
                    "values": items(_short, 1000, 1),
                    "seeds": _seeds,
                },
                {
                    "arms": items(_name, MOST_ARMS),
                    "study_seeds": _count,
                    "fewest_seeds": _count,
                    "until_decided": flag,
                },
            ),
            len(FIELDS),
        ),
        "calls": items(
            fields(
                {"command": text(LONG)},
                {
                    "until_decided": flag,
                    "arms": _count,
                    "seeds": _count,
                    "fewest_seeds": _count,
                    "runs_before": _count,
                    "date": _name,
                    "normlab": _name,
                },
            ),
            10_000,
        ),
    },
)
"""study.toml."""

_of_splits = one_of(*SPLITS)
FINDING = fields(
    {"check": _name, "level": one_of(*_LEVELS), "sentence": text()}, {"advice": text()}
)
DATA = fields(
    {},
    {
        "source": text(LONG),
        "kind": _name,
        "name": _name,
        "fingerprint": _name,
        "classes": items(text(SHORT, 1), MANY, different=True),
        "counts": entries(entries(_count, key=_name), key=_of_splits),
        "images": entries(_count, key=_of_splits),
        "image_size": whole(1, 1 << 16),
        "channels": whole(1, 4096),
        "resize_rule": text(),
        "split_policy": entries(text(), key=_of_splits),
        "folds": fields(
            {
                "number": whole(2, MOST_SEEDS),
                "images": _count,
                "counts": entries(_count, key=_name),
                "sizes": fields({name: items(whole(1), MOST_SEEDS, 2) for name in SPLITS}),
            }
        ),
        "split_seed": optional(whole(-(2**63), 2**64)),
        "limit_per_class": optional(_count),
        "mean": items(any_number, 4096),
        "std": items(number(), 4096),
        "skipped": entries(text(), key=text()),
        "notes": items(text(), 10_000),
        "findings": items(FINDING, 10_000),
        "config": entries(anything),
    },
)
"""data.json."""

# A block has at most two sites and a shortcut's, and around them five other parts and a shortcut's.
_layers = items(fields({"name": text(), "layer": text()}), 20_000)
# A loss is infinite, or no number, where the weights that were chosen gave that on other images.
_metrics = fields({"loss": magnitude, **dict.fromkeys(METRICS, _share)})
_names = items(text(), MANY)
START = fields(
    {"weights": text(), "norm": _name, "loaded": _share},
    {
        "how": text(),
        "missing": _names,
        "left_over": _names,
        "classifier": text(),
        "original": _metrics,
        "val": _metrics,
    },
)
"""What a run that starts from trained weights started with: where they are from, the normalization
that they were trained with, the share of parameters that was loaded, how layers were converted, and
validation of the network before the conversion and after it."""
RECORD = fields(
    {"status": matching(_STATUS, "complete, interrupted, diverged at step K or failed: REASON")},
    {
        "identity": _name,
        "config": entries(_setting, key=_field),
        "code": entries(_short, key=text()),
        "data": fields(
            {}, {"source": text(LONG), "fingerprint": _name, "config": entries(anything)}
        ),
        "versions": entries(optional(_short), 1000),
        "hardware": entries(any_of("text or a number", optional(_short), number()), 1000),
        "parameters": _count,
        "sites": _layers,
        "parts": _layers,
        "notes": items(text(), 1000),
        "kernels_note": text(),
        "batch": entries(_count),
        "highest_lr": number(),
        "epochs_done": whole(0, MOST_EPOCHS),
        "steps_done": _count,
        "stopped_early": flag,
        "chosen_epoch": optional(whole(0, MOST_EPOCHS)),
        "seconds": number(0, 1e10),
        "processor_seconds": number(0, 1e10),
        "processor_seconds_by_epoch": items(number(0, 1e10), MOST_EPOCHS),
        "side_by_side": whole(0, 1_000_000),
        "start": START,
        "save_memory": flag,
        "memory": optional(entries(_count, 100)),
        "metrics": optional(entries(_metrics, key=_of_splits)),
        "written": matching(r"\d{4}-\d{2}-\d{2}T[\d:.+Z-]{5,30}", "a date and time (ISO 8601)"),
    },
)
"""run.json, its metrics as numbers."""

_value = any_of("text, a number, true or false", _setting)
TUNING = fields(
    {
        "field": _field,
        "shared": _value,
        "grid": items(_value, 1000, 1),
        "values": items(_value, 1000, 1),
        "seeds": _seeds,
        "limit": text(),
        "choices": items(
            fields(
                {"arm": _name, "value": _value, "name": _name},
                {"edge": one_of("", "lowest", "highest"), "failed": flag},
            ),
            MOST_ARMS,
        ),
    }
)
"""tuning.json."""

QUANTITIES = ("loss", "gradients", "weights", "buffers", "evaluation logits")
"""What the check ``same-function`` compares."""
_of_quantities = one_of(*QUANTITIES)
SAME_FUNCTION = fields(
    {
        "reference": _name,
        "arm": _name,
        "steps": _count,
        "largest": entries(
            fields(
                {
                    "difference": magnitude,
                    "where": _name,
                    "step": _count,
                    "first_over": optional(_count),
                }
            ),
            key=_of_quantities,
        ),
        "float32": entries(magnitude, key=_of_quantities),
    },
    {
        "question": _name,
        "mismatch": text(),
        "diverged": flag,
        "coarse": flag,
        "bfloat16": entries(magnitude, 100),
    },
)
"""checks/same-function/ARM.json, its differences as numbers."""


def check_question(question: dict[str, Any], path: Path) -> None:
    """Check what study.toml says, also that its names of arms can be names of folders, that its
    settings are possible, and that its reference is one of its arms.

    Raises:
        InputError: naming the field, what was found and what is expected.
    """
    check(question, QUESTION, path)
    arms: Mapping[str, Mapping[str, Any]] = question["arms"]
    try:
        if not arms:
            raise MismatchError("arms", arms, "a table with an arm at least")
        check_arms(list(arms))
        runs = sum(
            min(len(question["seeds"]), question.get("fewer_seeds", {}).get(arm, MOST_SEEDS))
            for arm in arms
        )
        if runs > MOST_RUNS:
            raise ValueError(
                f"it has {len(arms):,} arms and {len(question['seeds']):,} seeds, and {MOST_RUNS:,}"
                " runs are the most that a study can have"
            )
        for arm, varied in arms.items():
            try:
                RunConfig.from_dict({**question.get("run", {}), **varied})
            except InputError as error:
                raise ValueError(f"the settings of {arm} cannot be: {error}") from None
        pairs(arms, Rule.read(question).reference)
        twins = [arm for pair in question.get("same_function", ()) for arm in pair]
        tuned = [search["field"] for search in question.get("tuning", ())]
        for name, named in (
            ("same_function", twins),
            ("fewer_seeds", question.get("fewer_seeds", ())),
        ):
            strange = next((arm for arm in named if arm not in arms), None)
            if strange is not None:
                raise MismatchError(name, strange, "of arms of the study")
        if len(set(tuned)) < len(tuned):
            raise ValueError("a field is tuned twice")
    except ValueError as error:
        raise unfit(path, error) from None


def check_data(data: dict[str, Any], path: Path) -> None:
    """Check what data.json says, also that its counts are of its classes and make up its images.

    Raises:
        InputError: naming the field, what was found and what is expected.
    """
    check(data, DATA, path)
    try:
        classes = set(data.get("classes", ()))
        for split, counts in data.get("counts", {}).items():
            place = within("counts", split)
            strange = next((name for name in counts if classes and name not in classes), None)
            if strange is not None:
                raise MismatchError(f"a name in {place}", strange, "one of the classes")
            images = data.get("images", {}).get(split)
            if images is not None and images != sum(counts.values()):
                raise MismatchError(within("images", split), images, f"the sum of {place}")
        _check_folds(data.get("folds"), classes)
        for name in ("mean", "std"):
            if name in data and len(data[name]) != data.get("channels", len(data[name])):
                raise MismatchError(
                    f"the number of entries in {name}", len(data[name]), "that of the channels"
                )
    except MismatchError as error:
        raise unfit(path, error) from None


def _check_folds(folds: Mapping[str, Any] | None, classes: set[str]) -> None:
    """Check that folds have an entry for each run, and make up the images of the classes."""
    if folds is None:
        return
    for name, sizes in folds["sizes"].items():
        if len(sizes) != folds["number"]:
            place = f"the number of entries in {within('folds', 'sizes')}.{name}"
            raise MismatchError(place, len(sizes), "that of the folds")
    strange = next((name for name in folds["counts"] if classes and name not in classes), None)
    if strange is not None:
        raise MismatchError("a name in folds.counts", strange, "one of the classes")
    for total in (sum(folds["sizes"]["test"]), sum(folds["counts"].values())):
        if total != folds["images"]:
            raise MismatchError(
                "images of folds", folds["images"], f"the sum of its parts, {total}"
            )


def check_record(record: dict[str, Any], path: Path) -> None:
    """Check what run.json says, also that a run that is complete has metrics, and its settings are
    possible.

    Raises:
        InputError: naming the field, what was found and what is expected.
    """
    check(record, RECORD, path)
    try:
        status, metrics = record["status"], record.get("metrics")
        # One that is being made again may still have those of before, which nobody reads.
        if status != "interrupted" and (status == "complete") is not bool(metrics):
            expected = "there" if status == "complete" else "empty for a run that did not complete"
            raise MismatchError("metrics", metrics, expected)
        RunConfig.from_dict(record.get("config") or {})
    except ValueError as error:
        raise unfit(path, error) from None


def check_tuning(stated: dict[str, Any], path: Path) -> None:
    """Check what tuning.json says.

    Raises:
        InputError: naming the field, what was found and what is expected.
    """
    check(stated, TUNING, path)
    try:
        if stated["field"] != path.parent.name:
            raise MismatchError("field", stated["field"], "the name of its folder")
        chosen = [choice["arm"] for choice in stated["choices"]]
        if len(set(chosen)) < len(chosen):
            raise ValueError("an arm has two choices")
        for choice in stated["choices"]:
            if choice["value"] not in [*stated["values"], stated["shared"]]:
                raise MismatchError("choices", choice["value"], "one of the values")
    except ValueError as error:
        raise unfit(path, error) from None


def check_same_function(stated: dict[str, Any], path: Path) -> None:
    """Check what was found of an arm, also that the file is that arm's.

    Raises:
        InputError: naming the field, what was found and what is expected.
    """
    check(stated, SAME_FUNCTION, path)
    if file_name(stated["arm"]) != path.stem:
        raise unfit(path, MismatchError("arm", stated["arm"], "the one that names the file"))


def most_bytes(epochs: int) -> int:
    """The largest history.csv or features.csv of so many epochs."""
    return _ROW_BYTES * (len(ROWS) * epochs + 1)


def parse_rows(
    content: bytes, columns: Sequence[str], path: Path, epochs: int, splits: Sequence[str] = ("",)
) -> list[dict[str, Any]]:
    """The rows of history.csv or features.csv, numbers as numbers.

    Args:
        content: of the file.
        columns: that it must have.
        path: for messages.
        epochs: of the run; no row is of a later one.
        splits: each has at most one row per epoch. Epochs ascend.

    Raises:
        InputError: naming the line and the column.
    """
    epoch = whole(1, epochs)
    shapes: dict[str, Shape] = {
        "epoch": epoch, "split": one_of(*splits), **dict.fromkeys(METRICS, _share),
        "loss": magnitude, **dict.fromkeys(("lr", "seconds"), number()),
    }  # fmt: skip
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        if next(reader, []) != list(columns):
            raise ValueError(f"its columns are not {', '.join(columns)}")
        rows: list[dict[str, Any]] = []
        seen: set[tuple[int, str]] = set()
        last = 0
        for line, cells in enumerate(reader, 2):
            if len(cells) != len(columns):
                raise ValueError(f"line {line} has {len(cells)} cells, not {len(columns)}")
            row = {name: _read(name, cell) for name, cell in zip(columns, cells, strict=True)}
            for name, value in row.items():
                shapes.get(name, any_number)(value, f"{name} in line {line}")
            key = row["epoch"], row.get("split", "")
            if key in seen or row["epoch"] < last:
                raise MismatchError(
                    f"epoch in line {line}", row["epoch"], "above those of the rows before"
                )
            seen.add(key)
            last = row["epoch"]
            rows.append(row)
        return rows
    except (ValueError, csv.Error) as error:
        raise unfit(path, error) from None


def _read(name: str, cell: str) -> Any:
    """A cell as a number where it is one; what it must be is another question."""
    with suppress(ValueError):
        return cell if name == "split" else int(cell) if name == "epoch" else float(cell)
    return cell
