"""What a study's numbers do not show, in plain words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ....pages.tables import markdown_text
from ....pages.words import listed, seeds_between
from ....results import Results, read_curves, read_tunings
from ....results.folds import Folds
from ...context import Report
from ...section import FolderSection


class LimitsSection(FolderSection):
    """A list of sentences."""

    heading = "Limits"

    def context(self, report: Report) -> Mapping[str, Any]:
        """The sentences."""
        return {"limits": limits(report.results)}

    def markdown(self, report: Report) -> Sequence[str]:
        """The same sentences."""
        return ("\n".join(f"- {markdown_text(said)}" for said in limits(report.results)),)


def limits(results: Results) -> list[str]:
    """One sentence or two per limit: seeds, budget, learning rate, data."""
    return [
        *_seeds(results),
        *_budget(results),
        *_rate(results),
        *_batch_size(results.question),
        *_patience(results.question),
        *(_images(results) if results.folds is None else _folds(results, results.folds)),
        *_balance(results),
        *dict.fromkeys(note for run in results.runs for note in run.record.get("notes", ())),
        *_resumed(results),
        "Training curves are recorded while the weights change, before the epoch is over. The "
        "table's training numbers are measured afterwards. The two differ, and that is expected.",
    ]


def _balance(results: Results) -> list[str]:
    used = {
        arm.get("balance", results.question.get("run", {}).get("balance", "none"))
        for arm in results.question["arms"].values()
    }
    said = []
    if "loss" in used:
        said.append(
            "Where balance is loss, an image counts in the loss inversely to the size of its "
            "class. The curves show the training loss without these weights."
        )
    if "sampling" in used:
        said.append(
            "Where balance is sampling, training curves are over the images drawn, in which "
            "classes are equally frequent."
        )
    if said:
        said.append("Validation and test numbers are unweighted, over the images as they are.")
    return said


def _seeds(results: Results) -> list[str]:
    seeds, most = results.seed_counts
    said = []
    if most == 1:
        said.append(
            "One seed per arm. Any difference could be chance: repeat the study with more seeds."
        )
    elif seeds < 10:
        said.append(
            f"{seeds_between(seeds, most)} per arm. With {'this few' if seeds == most else 'few'} "
            "seeds the spread itself is known only roughly, so numbers of seeds are given as "
            "ranges."
        )
    if len(results.arms) > 1:
        said.append(
            "The tables list the arms in the order in which they were asked. That is not a "
            "ranking, and neither are means that differ by less than their interval."
        )
    return said


def _scaled(question: Mapping[str, Any]) -> bool:
    """Whether the learning rate follows the batch size."""
    rule = question.get("run", {}).get("lr_scaling", "none")
    return "lr_scaling" in question.get("varied", ()) or rule != "none"


def _rate(results: Results) -> list[str]:
    question = results.question
    if {"lr", "lr_scaling"} & set(question.get("varied", ())) or len(results.arms) == 1:
        return []
    rate = question.get("run", {}).get("lr")
    tuned = {tuning.search.field for tuning in read_tunings(results)}
    named = "" if rate is None else f" ({rate:g})"
    return [
        f"One learning rate{named}{', scaled with the batch,' if _scaled(question) else ''} is "
        "shared by all arms. An arm that would learn better at another rate is at a disadvantage "
        "in the first table; the rate often matters more than the normalization."
        + ("" if "lr" in tuned or results.folds else " --tune lr gives each arm its own.")
    ]


def _batch_size(question: Mapping[str, Any]) -> list[str]:
    varied, shared = question.get("varied", ()), question.get("run", {})
    if "batch_size" not in varied:
        return []
    said = []
    if not {"epochs", "budget"} & set(varied):
        said.append(
            "Arms of different batch size train for the same number of epochs, so a smaller batch "
            "makes more updates: a difference may come from that rather than from the statistics. "
            "--budget updates separates the two."
            if shared.get("budget", "epochs") == "epochs"
            else "Arms of different batch size make the same number of updates, so a larger batch "
            "sees each image more often: a difference may come from that. --budget epochs "
            "separates the two. An epoch here has as many updates as one pass in batches of "
            f"{shared.get('reference_batch', 32)}."
        )
    if "lr" not in varied and not _scaled(question):
        said.append(
            "The learning rate is the same for every batch size. A smaller batch has noisier "
            "gradients and usually needs a smaller rate; --lr-scaling linear scales it."
        )
    return said


def _patience(question: Mapping[str, Any]) -> list[str]:
    patience = question.get("run", {}).get("patience")
    if not patience:
        return []
    return [
        f"Runs were stopped when validation accuracy had not risen for {patience} epochs, so arms "
        "may have had different budgets."
    ]


def _by_seed(results: Results) -> str:
    """What the seeds change, before a dot or a comma."""
    if any(run.record.get("start") for run in results.runs):
        return "The seeds change order and augmentation, and the weights that are not loaded"
    return "The seeds change initial weights, order and augmentation"


def _images(results: Results) -> list[str]:
    return [
        f"{_by_seed(results)}. Split and images are the same "
        "for all runs, so the spread does not include what other images would have changed.",
        *_test_images(results),
    ]


def _folds(results: Results, folds: Folds) -> list[str]:
    return [
        f"{_by_seed(results)}, and which of the "
        f"{folds.images:,} images a run trains and is tested on ({folds.size('train')} and "
        f"{folds.size('test')} of them). The spread includes all of that. A run's accuracy moves "
        f"in steps of {100 / min(folds.sizes['test']):.2g} points.",
        "Runs train on parts of the same images, so they are not independent, and nobody can tell "
        "from the runs alone how much they depend on each other. Intervals take the variance of a "
        f"mean to be (1/n + n_test/n_train) s², here (1/n + {folds.shared():.2g}) s² (Nadeau and "
        "Bengio 2003). That was right, or on the safe side, where it was tried on data whose truth "
        "is known; it is no guarantee. More seeds on the same images narrow an interval to no less "
        "than the second term.",
        "The intervals are for networks trained on as many images as each run here. With the whole "
        "set to train on, arms may differ otherwise.",
    ]


def _test_images(results: Results) -> list[str]:
    tests = results.data.get("images", {}).get("test")
    spreads = [results.spread(arm, "test", "accuracy") for arm in results.arms]
    means = [spread.mean for spread in spreads if spread is not None]
    if not tests or not means:
        return []
    mean = statistics.fmean(means)
    chance = 100 * math.sqrt(mean * (1 - mean) / tests)
    return [
        f"The test split has {tests:,} images, so one image is {100 / tests:.2g} points. At these "
        f"accuracies, another {tests:,} images would move a number by about ±{chance:.2g} points "
        "(one standard error)."
    ]


def _resumed(results: Results) -> list[str]:
    """Runs that were resumed with something else than they were begun with."""
    said = []
    for run in results.runs:
        for entry in run.record.get("resumed", ()):
            was, now = entry.get("from", {}), entry.get("to", {})
            changed = [f"{name} (was {was[name]}, is {now[name]})" for name in was if name in now]
            if changed:
                said.append(
                    f"{run.arm}, seed {run.seed}, was interrupted and resumed at step "
                    f"{entry['step']:,} with something changed: {listed(changed)}. Its last digits "
                    "may differ from those of a run on one machine."
                )
    return said


def _budget(results: Results) -> list[str]:
    """How long the runs trained, on how much."""
    data = results.data
    steps = sorted({int(run.record.get("steps_done", 0)) for run in results.runs if run.complete})
    images = data.get("images", {}).get("train")
    if not steps or not images:
        return []
    trained = f"{images:,}" if results.folds is None else results.folds.size("train")
    updates = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    size = data.get("image_size")
    pixels = f" of {size} × {size} pixels" if size else ""
    rising = [
        arm for arm in results.arms if read_curves(results, arm).trend.startswith("still improving")
    ]
    named = (
        f"The arms {listed(rising)} were" if len(rising) > 1 else f"The arm {''.join(rising)} was"
    )
    still = f" {named} still improving at the end." if rising else ""
    return [
        f"The budget was {updates} updates per run on {trained} training images{pixels}. What is "
        "true at this budget, for this network and these images, may not be true at a larger "
        f"one.{still}"
    ]
