"""Classes of unequal size: weights and draws against what they must be."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight

from normlab import compare
from normlab.data import Augmentation, DataConfig, DataSet, DeviceSplit, load
from normlab.data.batches import balanced_order, repeats
from normlab.models import ResNet
from normlab.runs import RunConfig, identity, read_history
from normlab.training import Keeping, run, train
from normlab.training.balance import class_weights
from normlab.training.step import gradients

SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 16}
EVERY_STEP = Keeping(checkpoint_minutes=0)


@pytest.fixture(scope="module")
def uneven() -> DataSet:
    """Digits of which training has one image of class 1 to four of each other, and none of 2."""
    data = load(DataConfig(limit_per_class=16))
    split = data.splits["train"]
    seen: Counter[int] = Counter()
    rows = []
    for row, label in enumerate(split.labels.tolist()):
        seen[label] += 1
        if seen[label] <= {1: 4, 2: 0}.get(label, 16):
            rows.append(row)
    fewer = dataclasses.replace(
        split, names=split.names[rows], labels=split.labels[rows], ids=split.ids[rows],
        digests=split.digests[rows], _rows=split._rows[rows],
    )  # fmt: skip
    return dataclasses.replace(data, splits={**data.splits, "train": fewer}, fingerprint="uneven")


def test_weights_are_those_of_scikit_learn(uneven: DataSet) -> None:
    labels = uneven.splits["train"].labels
    weights = class_weights(labels, 10)
    there = np.unique(labels)
    expected = compute_class_weight("balanced", classes=there, y=labels)
    assert weights[there] == pytest.approx(expected)
    assert weights[2] == 0
    assert weights[labels].mean() == pytest.approx(1.0)
    assert weights[1] == pytest.approx(4 * weights[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_loss_is_the_sum_over_images(smoothing: float, uneven: DataSet) -> None:
    config = RunConfig(balance="loss", label_smoothing=smoothing, norm="ln")
    split = DeviceSplit(uneven, "train")
    weights = torch.from_numpy(class_weights(split.split.labels, 10))
    model = ResNet(1, 10, "ln", in_channels=1, seed=0).double()
    # Batches of unequal size, as with accumulation: what counts is the image.
    batches = [split.batch(range(20)), split.batch(range(20, 27))]
    loss, _ = gradients(model, [(x.double(), y) for x, y in batches], config, weights)
    logits = torch.cat([model(x.double()) for x, _ in batches])
    labels = torch.cat([y for _, y in batches]).tolist()
    expected = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels, strict=True):
        terms = [
            ((1 - smoothing) * (k == label) + smoothing / 10) * (row.logsumexp(0) - row[k])
            for k in range(10)
        ]
        expected = expected + float(weights[label]) * sum(terms) / 27  # type: ignore[operator]
    (by_hand,) = torch.autograd.grad(expected, model.fc.weight)
    # What is told has neither weights nor smoothing, as validation has not.
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    assert float(loss) == pytest.approx(plain.item(), rel=1e-12)
    assert model.fc.weight.grad is not None
    assert torch.allclose(model.fc.weight.grad, by_hand, rtol=1e-9, atol=1e-12)


def test_draws_make_classes_and_their_images_equally_likely(uneven: DataSet) -> None:
    labels = uneven.splits["train"].labels
    drawn = np.concatenate([balanced_order(7, epoch, labels) for epoch in range(200)])
    assert len(drawn) == 200 * len(labels)
    counts = np.bincount(labels[drawn], minlength=10)
    assert counts[2] == 0
    assert stats.chisquare(np.delete(counts, 2)).pvalue > 1e-4
    for label in (0, 1):
        each = np.bincount(drawn, minlength=len(labels))[labels == label]
        assert stats.chisquare(each).pvalue > 1e-4


def test_draws_depend_on_seed_and_epoch_alone(uneven: DataSet) -> None:
    labels = uneven.splits["train"].labels
    first = balanced_order(0, 1, labels)
    np.random.seed(3)
    assert np.array_equal(first, balanced_order(0, 1, labels))
    assert not np.array_equal(first, balanced_order(0, 2, labels))
    assert not np.array_equal(first, balanced_order(1, 1, labels))


def test_an_image_that_comes_again_is_augmented_anew(uneven: DataSet) -> None:
    split = DeviceSplit(uneven, "train")
    order = balanced_order(0, 1, split.split.labels)
    counted = repeats(order).tolist()
    before: Counter[int] = Counter()
    for row, repeat in zip(order.tolist(), counted, strict=True):
        assert repeat == before[row]
        before[row] += 1
    row = before.most_common(1)[0][0]
    moved = Augmentation(crop_pad=4)
    batches = list(split.epoch(16, 0, 1, moved, balanced=True))
    images = torch.cat([x for x, _ in batches])[order == row]
    assert len(images) >= 4
    assert len({image.numpy().tobytes() for image in images}) > len(images) / 2
    # The first time it is what it is without balance.
    alone, _ = split.batch([row], moved, seed=0, epoch=1)
    assert torch.equal(images[0], alone[0])
    assert torch.equal(
        torch.cat([y for _, y in batches]), torch.from_numpy(split.split.labels[order])
    )


@pytest.mark.parametrize("fields", [{}, {"budget": "updates", "reference_batch": 24}])
@pytest.mark.parametrize("balance", ["loss", "sampling"])
def test_a_balanced_run_resumes_to_the_bit(
    balance: str,
    fields: dict[str, Any],
    uneven: DataSet,
    tmp_path: Path,
) -> None:
    config = RunConfig(**{**SMALL, "crop_pad": 1, "balance": balance, **fields})
    train(config, uneven, tmp_path / "whole")

    def stop(at: run.Progress) -> None:
        if at.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, uneven, tmp_path / "cut", stop, keeping=EVERY_STEP)
    train(config, uneven, tmp_path / "cut")
    one, two = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("whole", "cut"))
    assert one == two
    plain = dataclasses.replace(config, balance="none")
    train(plain, uneven, tmp_path / "plain")
    assert (tmp_path / "plain/weights.safetensors").read_bytes() != one
    assert identity(plain, "d", {}) != identity(config, "d", {})


def test_no_loss_that_is_told_is_weighted(uneven: DataSet, tmp_path: Path) -> None:
    record = train(RunConfig(**{**SMALL, "epochs": 3}, balance="loss"), uneven, tmp_path)
    arrays = np.load(tmp_path / "predictions.npz", allow_pickle=False)
    for split in ("train", "val", "test"):
        labels, probabilities = arrays[f"{split}_label"], arrays[f"{split}_probabilities"]
        true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        assert record["metrics"][split]["loss"] == pytest.approx(-np.log(true).mean(), rel=1e-4)
    assert all(math.isfinite(row["loss"]) for row in read_history(tmp_path))


def test_the_report_says_what_the_training_loss_is(tmp_path: Path) -> None:
    compare(
        arms="bn", balance=["none", "loss", "sampling"], out=tmp_path, n=1, epochs=1, seeds=1,
        limit_per_class=8, workers=1,
    )  # fmt: skip
    said = (tmp_path / "results.md").read_text()
    assert "curves show the training loss without these weights" in said
    assert "training curves are over the images drawn" in said
    assert sorted(path.parent.parent.name for path in tmp_path.glob("runs/*/*/run.json")) == [
        "bn,balance=loss", "bn,balance=none", "bn,balance=sampling",
    ]  # fmt: skip
    config = json.loads((tmp_path / "runs/bn,balance=loss/seed-0/run.json").read_text())["config"]
    assert config["balance"] == "loss"
