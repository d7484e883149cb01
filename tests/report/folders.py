"""Study folders as the trainer leaves them, made up: what the report reads, and nothing more."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from sklearn.metrics import f1_score

from normlab.files import write_json
from normlab.results import hardest, read_results
from normlab.runs import run_folder
from normlab.runs.pictures import write_pictures as keep_pictures

ARMS = ("torch_bn", "bn", "in", "bin", "ln", "gn", "none")
LAYERS = {
    "torch_bn": "BatchNorm2d({c}, eps=1e-05, momentum=0.1)",
    "gn": "GroupNorm2d({c}, groups=8, eps=1e-05)",
}
CLASSES = tuple("0123456789")
HISTORY = ("epoch", "split", "loss", "accuracy", "micro_f1", "macro_f1", "lr", "seconds")


def make_study(
    folder: Path,
    *,
    arms: Mapping[str, Mapping[str, Any]] | Sequence[str] = ARMS,
    seeds: int | Sequence[int] = 3,
    epochs: int = 8,
    ends: Mapping[tuple[str, int], str] | None = None,
    missing: Sequence[tuple[str, int]] = (),
    classes: Sequence[str] = CLASSES,
    title: str = "Seven normalizations of one residual network",
    data: Mapping[str, Any] | None = None,
    features: bool = False,
    predictions: bool = False,
    memory: bool = True,
) -> Path:
    """Write a study.

    Args:
        folder: where; made.
        arms: names, or names with the fields that vary.
        seeds: how many, or which.
        epochs: of a complete run.
        ends: the status of runs that are not complete; "diverged at step k" ends at epoch 3.
        missing: runs not made yet.
        classes: names of the classes.
        title: of the study.
        data: keys of data.json over the usual ones; None leaves a key out.
        features: whether runs recorded percentiles of their features.
        predictions: whether complete runs left predictions.npz.
        memory: whether runs recorded what a step takes, and what ran beside them.
    """
    fields = dict(arms) if isinstance(arms, Mapping) else {arm: {"norm": arm} for arm in arms}
    varied = list(next(iter(fields.values())))
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(
        tomli_w.dumps(
            {
                "format": "normlab study 1",
                "what": "norms",
                "title": title,
                "command": "normlab compare norms --data digits",
                "normlab": "0.1.0",
                "seeds": numbers,
                "varied": varied,
                "data": {"source": "digits", "fingerprint": "f1n9e2"},
                "run": {
                    "n": 2,
                    "shortcut": "A",
                    "epochs": epochs,
                    "batch_size": 32,
                    "lr": 0.02,
                    "optimizer": "sgd",
                    "momentum": 0.9,
                    "flip": False,
                    "step_at": [0.5, 0.75],
                },
                "arms": fields,
            }
        )
    )
    write_json(folder / "data.json", _data(classes, dict(data or {})))
    for position, arm in enumerate(fields):
        for seed in numbers:
            if (arm, seed) not in missing:
                status = (ends or {}).get((arm, seed), "complete")
                _write_run(folder, arm, fields[arm], seed, epochs, status, position)
                if predictions and status == "complete":
                    write_predictions(run_folder(folder, arm, seed), classes, f"{arm} {seed}")
                if not memory:
                    _forget_memory(run_folder(folder, arm, seed))
                if features:
                    _write_features(run_folder(folder, arm, seed), epochs, position + seed)
    return folder


def write_predictions(run: Path, classes: Sequence[str], drawn_from: str) -> None:
    """Predictions of as many images as data.json counts; some images are hard for every run."""
    arrays: dict[str, Any] = {}
    for split, count in (("train", 125), ("val", 27), ("test", 27)):
        labels = np.repeat(np.arange(len(classes)), [count + (k == 0) for k in range(len(classes))])
        shared, own = (
            np.random.default_rng(list(f"{split} {source}".encode())) for source in ("", drawn_from)
        )
        shape = (len(labels), len(classes))
        logits = 5 * np.eye(len(classes))[labels] + shared.normal(size=shape)
        logits += own.normal(size=shape)
        shares = np.exp(logits)
        arrays[f"{split}_image"] = np.array([f"{split}/{k:05}.png" for k in range(len(labels))])
        arrays[f"{split}_label"] = labels
        arrays[f"{split}_probabilities"] = (shares / shares.sum(1, keepdims=True)).astype("f4")
    np.savez_compressed(run / "predictions.npz", **arrays)
    follow(run)


def follow(run: Path) -> None:
    """Let metrics, and the last row of the history, be those of the predictions."""
    record = json.loads((run / "run.json").read_text())
    with np.load(run / "predictions.npz") as held:
        arrays = dict(held)
    for split in record["metrics"]:
        labels, given = arrays[f"{split}_label"], arrays[f"{split}_probabilities"]
        answers, every = given.argmax(1), range(given.shape[1])
        accuracy = float((labels == answers).mean())
        record["metrics"][split] = {
            "loss": float(
                -np.log(given[np.arange(len(labels)), labels].clip(1e-30).astype(float)).mean()
            ),
            "accuracy": accuracy,
            "micro_f1": accuracy,
            "macro_f1": float(
                f1_score(labels, answers, labels=every, average="macro", zero_division=0)
            ),
        }
    write_json(run / "run.json", record)
    with (run / "history.csv").open() as opened:
        rows = [list(row.values()) for row in csv.DictReader(opened)]
    _write_history(run, rows, record["metrics"]["val"])


def stop_early(run: Path, epochs: int) -> None:
    """A run that patience ended."""
    record = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**record, "epochs_done": epochs, "chosen_epoch": epochs})
    for name in ("history.csv", "features.csv"):
        header, *rows = (run / name).read_text().splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= epochs]
        (run / name).write_text("\n".join([header, *kept]) + "\n")
    with (run / "history.csv").open() as opened:
        rows = [list(row.values()) for row in csv.DictReader(opened)]
    _write_history(run, rows, record["metrics"]["val"])


def _write_history(run: Path, rows: list[list[Any]], val: Mapping[str, float] | None) -> None:
    """With the last epoch the one that was chosen, where a run was complete."""
    if val is not None:
        top = val["accuracy"]
        for row in rows[:-1]:
            if row[1] == "val":
                row[3:6] = [min(float(share), top - 0.001) for share in row[3:6]]
        rows[-1][2:6] = [val["loss"], top, val["micro_f1"], val["macro_f1"]]
    with (run / "history.csv").open("w", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows([HISTORY, *rows])


def write_pictures(study: Path) -> list[str]:
    """hardest.npz as a study keeps it; returns the names in it, the hardest first."""
    names = [image.name for image in hardest(read_results(study))]
    pixels = np.random.default_rng(0).integers(0, 255, (len(names), 8, 8, 1), "u1")
    keep_pictures(study, names, pixels)
    return names


def _forget_memory(run: Path) -> None:
    """As runs were recorded before."""
    record = json.loads((run / "run.json").read_text())
    del record["memory"], record["side_by_side"]
    write_json(run / "run.json", record)


def _write_features(run: Path, epochs: int, lift: int) -> None:
    rows = [[e, 0.0, 0.1 * e, 0.5 * e, 1.0 * e + lift] for e in range(1, epochs + 1)]
    with (run / "features.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([["epoch", "p1", "p20", "p80", "p99"], *rows])


def _data(classes: Sequence[str], over: dict[str, Any]) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "source": "digits",
        "kind": "digits",
        "name": "digits",
        "fingerprint": "f1n9e2",
        "classes": list(classes),
        "counts": {
            split: {name: count + (index == 0) for index, name in enumerate(classes)}
            for split, count in (("train", 125), ("val", 27), ("test", 27))
        },
        "images": {
            split: count * len(classes) + 1
            for split, count in (("train", 125), ("val", 27), ("test", 27))
        },
        "image_size": 8,
        "channels": 1,
        "resize_rule": "shorter side to 8 px, then the centre square",
        "split_policy": {"train": "what remains", "val": "15 %", "test": "15 %"},
        "split_seed": 0,
        "mean": [0.3059],
        "std": [0.3762],
        "skipped": {},
        "notes": ["The source has no splits; they were drawn."],
    }
    return {k: v for k, v in {**usual, **over}.items() if v is not None}


def _write_run(
    folder: Path,
    arm: str,
    fields: Mapping[str, Any],
    seed: int,
    epochs: int,
    status: str,
    position: int,
) -> None:
    where = run_folder(folder, arm, seed)
    where.mkdir(parents=True)
    draw = random.Random(f"{arm} {seed}")
    complete = status == "complete"
    reached = epochs if complete else min(3, epochs)
    rows = []
    for epoch in range(1, reached + 1):
        for split, lag in (("train_running", 0.3), ("val", 0.0)):
            share = 1 - 0.9 * 0.5 ** (epoch + lag) - 0.01 * position - draw.uniform(0, 0.02)
            loss = 2.3 * 0.55 ** (epoch - lag) + draw.uniform(0, 0.03)
            if status.startswith("diverged") and epoch == reached:
                share, loss = 0.1, 400.0
            rows.append(
                [epoch, split, loss, share, share, share - draw.uniform(0, 0.01), 0.02, 0.5]
            )
    metrics = None
    if complete:
        metrics = {}
        for split, lift in (("train", 0.02), ("val", 0.0), ("test", -0.01)):
            share = 0.96 + lift - 0.01 * position - draw.uniform(0, 0.01)
            metrics[split] = {
                "loss": draw.uniform(0.05, 0.2),
                "accuracy": share,
                "micro_f1": share,
                "macro_f1": share - draw.uniform(0, 0.004),
            }
    _write_history(where, rows, None if metrics is None else metrics["val"])
    layer = LAYERS.get(arm, "Norm2d({c})")
    record = {
        "status": status,
        "identity": f"{arm}-{seed}",
        "config": {**fields, "seed": seed, "threads": 1},
        "data": {"source": "digits", "fingerprint": "f1n9e2"},
        "versions": {"python": "3.11.7", "normlab": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "a processor", "cores": 2, "system": "Linux x86_64"},
        "parameters": 171754 + 8 * position,
        "sites": [
            {"name": f"s{i}", "layer": layer.format(c=16 * 2 ** (i // 5))} for i in range(13)
        ],
        "epochs_done": reached,
        "steps_done": 40 * reached,
        "chosen_epoch": reached,
        "seconds": 3.5,
        "side_by_side": 2,
        "memory": {"kept_for_backward": 2_097_152 + 524_288 * position},
        "metrics": metrics,
        "written": "2026-01-02T03:04:05+00:00",
    }
    write_json(where / "run.json", record)
