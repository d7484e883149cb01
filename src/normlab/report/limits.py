"""What a study's numbers do not show, in plain words."""

from __future__ import annotations

import math
import statistics

from ..pages.words import listed
from ..results import Results, read_curves, read_tunings
from .tables import markdown_text


def limits(results: Results) -> list[str]:
    """A sentence a limit: seeds, budget, learning rate, data."""
    question = results.question
    seeds = len(question["seeds"])
    said = []
    if seeds == 1:
        said.append(
            "One seed an arm. Nobody can say from this whether a difference is the arm's or "
            "luck's: repeat it with more seeds."
        )
    elif seeds < 10:
        said.append(
            f"{seeds} seeds an arm. The spread over so few is itself known only roughly, which is "
            "why numbers of seeds are given as ranges."
        )
    if len(results.arms) > 1:
        said.append(
            "The order in the tables is the order in which the arms were asked. It ranks nothing, "
            "and means that differ by less than their interval do not either."
        )
    said += _budget(results)
    varied, shared = question.get("varied", ()), question.get("run", {})
    scaled = "lr_scaling" in varied or shared.get("lr_scaling", "none") != "none"
    if not {"lr", "lr_scaling"} & set(varied) and len(results.arms) > 1:
        rate = shared.get("lr")
        named = "" if rate is None else f" ({rate:g})"
        said.append(
            f"One learning rate{named}{', scaled with the batch,' if scaled else ''} is shared by "
            "all arms. An arm that would learn better at another rate is at a disadvantage in the "
            "first table; the rate often matters more than the normalization."
            + ("" if read_tunings(results) else " --tune lr gives each arm its own.")
        )
    if "batch_size" in varied and not {"epochs", "budget"} & set(varied):
        said.append(
            "Arms of different batch size see equally many epochs, so the smaller batch makes "
            "more updates: a difference may come from that rather than from the statistics. "
            "--budget updates takes this apart."
            if shared.get("budget", "epochs") == "epochs"
            else "Arms of different batch size make equally many updates, so the larger batch "
            "sees each image more often: a difference may come from that. --budget epochs takes "
            "this apart. An epoch is here as many updates as one pass in batches of "
            f"{shared.get('reference_batch', 32)}."
        )
    if "batch_size" in varied and "lr" not in varied and not scaled:
        said.append(
            "The learning rate is the same for every batch size. A smaller batch has noisier "
            "gradients and would rather have a smaller rate; --lr-scaling linear scales it."
        )
    if shared.get("patience"):
        said.append(
            f"Runs were stopped when validation accuracy had not risen for {shared['patience']} "
            "epochs, so arms may have had different budgets."
        )
    said.append(
        "The seeds change initial weights, order and augmentation. Split and images are the same "
        "for all, so the spread leaves out what other images would have changed."
    )
    tests = results.data.get("images", {}).get("test")
    spreads = [results.spread(arm, "test", "accuracy") for arm in results.arms]
    means = [spread.mean for spread in spreads if spread is not None]
    if tests and means:
        mean = statistics.fmean(means)
        chance = 100 * math.sqrt(mean * (1 - mean) / tests)
        said.append(
            f"The test split has {tests:,} images: one image more or less is "
            f"{100 / tests:.2g} points, and at these accuracies another draw of as many images "
            f"would move a number by about ±{chance:.2g} points (one standard error)."
        )
    said.append(
        "Training curves are gathered while the weights change, before the epoch is over; the "
        "table's training numbers are measured afterwards. The two differ, and that is no fault."
    )
    return said


def _budget(results: Results) -> list[str]:
    """How long the runs trained, on how much."""
    data = results.data
    steps = sorted({int(run.record.get("steps_done", 0)) for run in results.runs if run.complete})
    images = data.get("images", {}).get("train")
    if not steps or not images:
        return []
    updates = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    size = data.get("image_size")
    pixels = f" of {size} × {size} pixels" if size else ""
    rising = [
        arm for arm in results.arms if read_curves(results, arm).trend.startswith("still improving")
    ]
    named = (
        f"The arms {listed(rising)} were" if len(rising) > 1 else f"The arm {''.join(rising)} was"
    )
    still = f" {named} still improving when it ended." if rising else ""
    return [
        f"The budget was {updates} updates a run on {images:,} training images{pixels}. What holds "
        f"at this budget, for this network and these images, may not hold at a larger one.{still}"
    ]


def markdown(results: Results) -> str:
    """The limits and how to repeat the study, as sections of results.md."""
    command = str(results.question.get("command", ""))
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in run.record["versions"].items())
        for run in results.runs
        if run.record.get("versions")
    )
    lines = ["", "## Limits", "", *(f"- {markdown_text(said)}" for said in limits(results))]
    if command:
        lines += ["", "## How to repeat it", "", "```", command, "```", ""]
    lines += [f"Versions: {markdown_text(found)}." for found in versions]
    return "\n".join(lines) + "\n"
