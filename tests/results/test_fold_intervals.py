"""Intervals of runs that share training images, and predictions pooled over folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import f1_score

from normlab.errors import InputError
from normlab.report import Report
from normlab.report.sections.answer import sentences
from normlab.report.sections.comparisons.verdict_table import comparisons_csv, comparisons_table
from normlab.report.terminal import verdict_lines
from normlab.results import Results, answers, class_f1, confusion, hardest
from normlab.results.folds import Folds
from normlab.results.statistics import (
    Verdict,
    equivalence_power,
    judge,
    seeds_for_equivalence,
    seeds_to_see,
    t_interval,
    visible_difference,
)
from normlab.runs.rule import looks_up_to
from simulated import simulated

BN = [0.80, 0.82, 0.79, 0.83, 0.80, 0.81]
GN = [0.70, 0.75, 0.70, 0.71, 0.74, 0.70]


def folds_of(number: int, train: int, test: int, **counts: int) -> dict[str, Any]:
    """data.json of so many folds, each run with as many images."""
    images = number * test
    sizes = {"train": [train] * number, "val": [images - train - test] * number,
             "test": [test] * number}  # fmt: skip
    return {
        "classes": list(counts) or ["ant"],
        "folds": {"number": number, "images": images, "counts": counts or {"ant": images},
                  "sizes": sizes},
    }  # fmt: skip


def folded(accuracy: Mapping[str, Sequence[float | None]], *, train: int = 150, test: int = 100,
           number: int = 3, **more: Any) -> Results:  # fmt: skip
    return replace(simulated(accuracy, **more), data=folds_of(number, train, test))


# ------------------------------------------------------------------ intervals


def test_the_interval_is_that_of_nadeau_and_bengio_by_hand() -> None:
    values = [-0.02, -0.01, 0.00]  # mean -0.01, s 0.01
    found = t_interval(values, 0.95, shared=0.25)
    assert found is not None
    # 4.3026527 * 0.01 * sqrt(1/3 + 1/4) = 0.03286205
    assert (found.low, found.high) == pytest.approx((-0.04286205, 0.02286205), abs=1e-8)
    plain = t_interval(values, 0.95)
    assert plain is not None
    assert plain == t_interval(values, 0.95, shared=0.0)
    assert found.half / plain.half == pytest.approx(math.sqrt(1 + 3 * 0.25))


def test_every_number_of_a_comparison_has_the_correction() -> None:
    (plain,) = judge(simulated({"bn": BN, "gn": GN})).comparisons
    (gn,) = judge(folded({"bn": BN, "gn": GN})).comparisons
    shared = 100 / 150
    wider = math.sqrt(1 + 6 * shared)
    mean, sd = np.mean(np.subtract(GN, BN)), np.std(np.subtract(GN, BN), ddof=1)
    half = scipy.stats.t.ppf(0.975, 5) * sd * math.sqrt(1 / 6 + shared)
    assert gn.interval is not None
    assert (gn.interval.low, gn.interval.high) == pytest.approx((mean - half, mean + half))
    assert gn.unadjusted == gn.interval
    assert plain.visible is not None
    assert gn.visible == pytest.approx(plain.visible * wider)
    assert plain.verdict is Verdict.WORSE
    assert gn.verdict is Verdict.WORSE
    close = {"bn": BN, "gn": [value - 0.004 * k for k, value in enumerate(BN)]}
    assert judge(simulated(close)).comparisons[0].verdict is Verdict.WORSE
    assert judge(folded(close)).comparisons[0].verdict is Verdict.INCONCLUSIVE


def test_a_verdict_is_for_images_of_the_kind() -> None:
    (gn,) = judge(folded({"bn": BN, "gn": GN})).comparisons
    assert gn.images is None
    assert gn.both is None
    assert gn.elsewhere is gn.verdict is Verdict.WORSE
    assert not gn.local
    lost = judge(folded({"bn": BN, "gn": [None, *(v + 0.3 for v in BN[1:])]})).comparisons[0]
    assert lost.verdict is Verdict.WITHHELD
    assert lost.elsewhere is Verdict.NONE


def test_accuracies_move_in_steps_of_an_image_of_the_smallest_fold() -> None:
    results = folded({"bn": BN, "gn": BN}, test=50)
    results.data["folds"]["sizes"]["test"] = [51, 50, 49]
    (gn,) = judge(results).comparisons
    assert gn.difference is not None
    assert gn.difference.sd == pytest.approx(1 / 49 / math.sqrt(6))


def test_plans_end_where_only_more_images_help() -> None:
    sd, level, shared = 0.01, 0.95, 0.25
    floor = visible_difference(10_000, sd, level, shared=shared)
    assert floor == pytest.approx(sd * math.sqrt(shared) * 2.8016, rel=1e-3)  # z.975 + z.8
    assert seeds_to_see(0.9 * floor, sd, level, shared=shared, folds=5) is None
    assert seeds_to_see(0.9 * floor, sd, level, folds=5) is not None
    for folds in (2, 3, 5):
        least = seeds_to_see(1.3 * floor, sd, level, shared=shared, folds=folds)
        assert least is not None
        assert least % folds == 0
        assert visible_difference(least, sd, level, shared=shared) <= 1.3 * floor
        assert visible_difference(least - folds, sd, level, shared=shared) > 1.3 * floor
    assert seeds_for_equivalence(0.01, sd, level, shared=shared, folds=5) is None
    most = seeds_for_equivalence(0.03, sd, level, shared=shared, folds=5)
    assert most is not None
    assert equivalence_power(most, 0.03, sd, level, shared=shared) >= 0.8
    assert equivalence_power(most - 5, 0.03, sd, level, shared=shared) < 0.8


@pytest.mark.parametrize(("n", "shared"), [(5, 0.3), (20, 0.15)])
def test_the_interval_covers_and_finds_what_is_planned(n: int, shared: float) -> None:
    """Runs correlated as Nadeau and Bengio assume: rho = n_test / (n_test + n_train)."""
    drawn = np.random.default_rng(n)
    rho, studies, sd = shared / (1 + shared), 4000, 0.01
    scale = sd / math.sqrt(1 - rho)  # s² estimates the part that is not common
    common = drawn.normal(0, scale * math.sqrt(rho), (studies, 1))
    values = common + drawn.normal(0, sd, (studies, n))
    size = visible_difference(n, sd, 0.95, shared=shared)
    found = [t_interval(row, 0.95, shared=shared) for row in values]
    plain = [t_interval(row, 0.95) for row in values]
    assert np.mean([0 in one for one in found if one]) == pytest.approx(0.95, abs=0.012)
    assert np.mean([0 in one for one in plain if one]) < 0.9
    seen = np.mean([one.low + size > 0 or one.high + size < 0 for one in found if one])
    assert seen == pytest.approx(0.8, abs=0.025)


def test_looks_are_at_whole_repetitions() -> None:
    assert looks_up_to(None, 3) == (3, 6, 9, 12, 21)
    assert looks_up_to(None, 20) == (20,)
    assert looks_up_to(30, 10) == (10, 20, 30)
    assert looks_up_to(4, 2) == (4,)


# ------------------------------------------------------------------ words


def test_the_answer_says_what_the_interval_is_for() -> None:
    report = Report(folded({"bn": BN, "gn": GN}))
    found = sentences.answer(report)
    assert "points worse than bn" in found.headline
    assert found.headline.endswith("on images of this kind.")
    said = " ".join(found.sure)
    assert "tested on one of 3 folds" in said
    assert "Nadeau and Bengio 2003" in said
    assert "these test images" not in said + found.headline
    heads = [column.head for column in comparisons_table(report).columns]
    assert "images" not in heads
    assert "seeds and images" not in heads
    assert comparisons_csv(report).splitlines()[1].startswith("gn,bn,6,")


def test_the_tally_of_several_arms_is_for_images_of_the_kind() -> None:
    report = Report(folded({"bn": BN, "gn": GN, "ln": [value - 0.2 for value in BN]}))
    assert sentences.answer(report).headline == (
        "Both arms compared with bn on images of this kind are worse."
    )


def test_what_would_decide_it_may_be_images() -> None:
    near = {"bn": BN, "gn": [a + d for a, d in zip(BN, (0.02, -0.02, 0.01) * 2, strict=True)]}
    headline = sentences.answer(Report(folded(near))).headline
    assert "More seeds would not be enough to call them equivalent" in headline
    assert "that takes more images" in headline
    assert "10,000" not in headline
    assert "needs more images" in verdict_lines(folded(near))[0]
    far = {"bn": BN, "gn": [a + d for a, d in zip(BN, (0.08, 0.01, 0.04) * 2, strict=True)]}
    results = folded(far, train=400)
    (gn,) = judge(results).comparisons
    low, high = gn.seeds_to_see(gn.difference.mean if gn.difference else 0) or (0, 0)
    assert low is not None
    assert low % 3 == 0
    assert high is None
    assert "if the spread is larger than it looks, no number is, and it takes more images" in (
        sentences.answer(Report(results)).headline
    )


# ------------------------------------------------------------------ predictions


def answering(folder: Path, right: Mapping[str, np.ndarray], labels: np.ndarray) -> Results:
    """Three folds of the images, dealt otherwise in each repetition: right[arm] is (repetition,
    image)."""
    repetitions = len(next(iter(right.values())))

    def tested(seed: int) -> np.ndarray:
        return np.random.default_rng(seed // 3).permutation(12)[4 * (seed % 3) :][:4]

    accuracy = {
        arm: [float(found[seed // 3][tested(seed)].mean()) for seed in range(3 * repetitions)]
        for arm, found in right.items()
    }
    results = replace(
        simulated(accuracy, folder=folder), data=folds_of(3, 6, 4, ant=4, bee=4, cow=4)
    )
    for run in results.runs:
        repetition, rows = run.seed // 3, tested(run.seed)
        given = np.where(right[run.arm][repetition], labels, (labels + 1) % 3)[rows]
        run.folder.mkdir(parents=True)
        np.savez(
            run.folder / "predictions.npz",
            test_image=np.array([f"i{row:02}" for row in rows]),
            test_label=labels[rows],
            test_probabilities=np.eye(3, dtype=np.float32)[given],
        )
    return results


def test_the_runs_of_a_repetition_predict_all_images_together(tmp_path: Path) -> None:
    labels = np.arange(12) % 3
    drawn = np.random.default_rng(0)
    right = {arm: drawn.random((2, 12)) > 0.4 for arm in ("bn", "gn")}
    right["bn"][:, 5] = right["gn"][:, 5] = False
    results = answering(tmp_path, right, labels)
    found = answers(results)
    assert found.folds == 3
    assert not found.left_out
    assert found.first is not None
    assert found.first.images.tolist() == [f"i{row:02}" for row in range(12)]
    for arm in right:
        predicted = np.where(right[arm], labels, (labels + 1) % 3)
        counts = confusion(results, arm)
        assert counts.sum() == 24  # each image once in each repetition
        assert np.trace(counts) == right[arm].sum()
        expected = [f1_score(labels, one, average=None) for one in predicted]
        means = [spread.mean for spread in class_f1(results, arm) if spread]
        np.testing.assert_allclose(means, np.mean(expected, axis=0))
    hard = {image.name: image for image in hardest(results)}
    assert (hard["i05"].wrong, hard["i05"].runs) == (4, 4)
    for name, image in hard.items():
        assert image.wrong == sum(int((~right[arm][:, int(name[1:])]).sum()) for arm in right)


def test_repetitions_that_lack_a_run_are_left_out_and_said(tmp_path: Path) -> None:
    labels = np.arange(12) % 3
    results = answering(tmp_path, {"bn": np.ones((2, 12), bool)}, labels)
    lost = {"status": "diverged at step 7", "metrics": None}
    runs = tuple(replace(run, record=lost) if run.seed == 4 else run for run in results.runs)
    found = answers(replace(results, runs=runs))
    assert list(found.of_arm["bn"]) == [0]
    assert found.left_out == ("bn, repetition 2: 1 of its 3 runs is without a model.",)
    (results.runs[0].folder / "predictions.npz").unlink()
    unread = tuple(replace(run) for run in results.runs[:3])
    (said,) = answers(replace(results, runs=unread)).left_out
    assert said.startswith("bn, repetition 1: predictions.npz is missing")
    (said,) = answers(results, "val").left_out
    assert said == "With folds, no two runs of an arm have the same validation images."


def test_runs_that_were_tested_on_the_same_image(tmp_path: Path) -> None:
    results = answering(tmp_path, {"bn": np.ones((1, 12), bool)}, np.arange(12) % 3)
    first, second = (run.folder / "predictions.npz" for run in results.runs[:2])
    second.write_bytes(first.read_bytes())
    (said,) = answers(results).left_out
    assert said == "bn, repetition 1: two of its runs were tested on the same image."


def test_mcnemar_needs_the_same_fold(tmp_path: Path) -> None:
    from normlab.results.statistics import mcnemar

    right = {arm: np.ones((1, 12), bool) for arm in ("bn", "gn")}
    results = answering(tmp_path, right, np.arange(12) % 3)
    runs = [replace(run, record={**run.record, "data": {"config": {"folds": 3}}})
            for run in results.runs]  # fmt: skip
    assert mcnemar(runs[1], runs[4]).images == 4
    with pytest.raises(InputError, match="with folds, two runs with the same seed"):
        mcnemar(runs[1], runs[5])


def test_what_a_study_says_of_its_folds() -> None:
    found = Folds.of(folds_of(4, 20, 10))
    assert found is not None
    assert found.shared() == 0.5
    assert found.repetitions(range(10)) == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert found.size("test") == "10"
    assert replace(found, sizes={**found.sizes, "test": [9, 11, 10, 10]}).size("test") == "9 to 11"
    assert Folds.of({}) is None
