"""What stands above all sections: runs without a model, and what was compared at a glance."""

from __future__ import annotations

from typing import Any

from ..pages.words import counted, seeds_between
from ..results import Results
from ..runs import OUR_NETWORK
from ..splits import SPLITS
from .context import Report

MOST_ARMS = 12
"""Up to this many arms are named among the facts."""


def endings(results: Results) -> list[str]:
    """A sentence for every arm with runs that did not end with a model."""
    sentences = []
    for arm in results.arms:
        found = {run.seed for run in results.of_arm(arm)}
        missing = [f"seed {s} not run yet" for s in results.seeds_of(arm) if s not in found]
        ended = [*results.ended_otherwise(arm), *missing]
        if ended:
            left = sum(run.complete for run in results.of_arm(arm))
            behind = (
                "no run is left to average" if left == 0
                else "its numbers are from the one remaining run" if left == 1
                else f"its numbers are over the other {left} runs"
            )  # fmt: skip
            sentences.append(f"{arm}: {', '.join(ended)}; {behind}.")
    return sentences


def facts(report: Report) -> list[tuple[str, str]]:
    """What was compared, at a glance."""
    shared = report.question.get("run", {})
    found = [
        *_size(report),
        *_images(report),
        *_network(report, shared),
        *_training(shared),
    ]
    return [fact for fact in found if fact[1]]


def _size(report: Report) -> list[tuple[str, str]]:
    arms = len(report.arms)
    named = [("Arms", ", ".join(report.arms))] if arms <= MOST_ARMS else []
    fewest, most = report.results.seed_counts
    many = (
        f"{counted(arms, 'arm')} × {counted(most, 'seed')}"
        if fewest == most
        else f"{counted(arms, 'arm')}, each with {seeds_between(fewest, most)}"
    )
    folds = report.results.folds
    if folds is not None:
        repeated = len(folds.repetitions(report.seeds))
        many += f" ({counted(repeated, 'repetition')} of {folds.number} folds)"
    return [*named, ("Runs", many)]


def _images(report: Report) -> list[tuple[str, str]]:
    data = report.data
    images = data.get("images") or {s: sum(c.values()) for s, c in data.get("counts", {}).items()}
    found = [("Data", str(data.get("name") or data.get("source") or ""))]
    if data.get("classes"):
        found.append(("Classes", f"{len(data['classes']):,}"))
    folds = report.results.folds
    if folds is not None:
        per_split = " / ".join(folds.size(split) for split in SPLITS)
        found.append(("Images", f"{folds.images:,} in {folds.number} folds"))
        found.append(("Images of a run: train / val / test", per_split))
    elif images:
        per_split = " / ".join(f"{images.get(s, 0):,}" for s in SPLITS)
        found.append(("Images: train / val / test", per_split))
    if "image_size" in data:
        size, channels = data["image_size"], data.get("channels", 3)
        colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        found.append(("Image size", f"{size} × {size}, {colour}"))
    return found


def _network(report: Report, shared: dict[str, Any]) -> list[tuple[str, str]]:
    results = report.results
    if shared.get("model", OUR_NETWORK) != OUR_NETWORK:
        return [("Network", f"{shared['model']}{_parameters(results)}")]
    varied = any("model" in fields for fields in report.question.get("arms", {}).values())
    if "n" not in shared or varied:
        return []
    depth = f"{6 * shared['n'] + 2} weight layers (n = {shared['n']})"
    return [("Network", f"residual, {depth}{_parameters(results)}")]


def _parameters(results: Results) -> str:
    counts = sorted(
        {run.record["parameters"] for run in results.runs if "parameters" in run.record}
    )
    if not counts:
        return ""
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f", {span} parameters"


def _training(shared: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if "epochs" in shared:
        found.append(("Epochs", str(shared["epochs"])))
    for name, title in (("batch_size", "Batch size"), ("lr", "Learning rate")):
        if name in shared:
            found.append((title, f"{shared[name]:g}"))
    if shared.get("accumulate", 1) > 1:
        found.append(("Batches per update", str(shared["accumulate"])))
    if shared.get("budget") == "updates":
        per_epoch = f"an epoch is one pass in batches of {shared.get('reference_batch', 32)}"
        found.append(("Budget", f"equal updates: {per_epoch}"))
    if shared.get("lr_scaling", "none") != "none":
        found.append(("Learning rate scaled with the batch", str(shared["lr_scaling"])))
    if shared.get("patience"):
        found.append(("Patience", f"{shared['patience']} epochs"))
    return found
