"""Batches: normalized, channels last, and augmented by draws that belong to the image alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from normlab.data import Augmentation, DataConfig, DataSet, DeviceSplit, epoch_order, load
from normlab.errors import InputError

Make = Callable[..., Path]


@pytest.fixture
def data(write: Make) -> DataSet:
    return load(DataConfig(str(write({"a": 30, "b": 30}))))


def reference(
    data: DataSet, row: int, augmentation: Augmentation | None, seed: int, epoch: int
) -> np.ndarray:
    """One image the slow way: normalize, pad with zeros, cut, mirror."""
    train = data.splits["train"]
    image = (train.images([row])[0] / 255.0 - data.mean) / data.std
    if augmentation is None:
        return image
    side, pad = data.image_size, augmentation.crop_pad
    (top,), (left,), (flip,) = augmentation.draws(seed, epoch, train.ids[[row]])
    padded = np.zeros((side + 2 * pad, side + 2 * pad, data.channels))
    padded[pad : pad + side, pad : pad + side] = image
    image = padded[top : top + side, left : left + side]
    return image[:, ::-1] if flip else image


AUGMENTATIONS = [
    None,
    Augmentation(),
    Augmentation(flip=True),
    Augmentation(crop_pad=2),
    Augmentation(crop_pad=4, flip=True),
    Augmentation(crop_pad=20, flip=True),
]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_equal_the_slow_way(data: DataSet, augmentation: Augmentation | None) -> None:
    split = DeviceSplit(data, "train", "cpu")
    rows = np.arange(len(split))[::-1]
    images, labels = split.batch(rows, augmentation, seed=3, epoch=7)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert images.shape == (len(split), 3, 12, 12)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == data.splits["train"].labels[rows].tolist()
    expected = np.stack([reference(data, row, augmentation, 3, 7) for row in rows])
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(data: DataSet) -> None:
    split = DeviceSplit(data, "train", "cpu")
    augmentation = Augmentation(4, True)
    whole, _ = split.batch(np.arange(len(split)), augmentation, seed=1, epoch=2)
    for rows in ([5], [7, 5, 3], [3, 3, 5, 9, 11]):
        part, _ = split.batch(rows, augmentation, seed=1, epoch=2)
        assert torch.equal(part, whole[rows])
    again, _ = split.batch(np.arange(len(split)), augmentation, seed=1, epoch=2)
    assert torch.equal(again, whole)
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        assert not torch.equal(split.batch(np.arange(len(split)), augmentation, **other)[0], whole)


def test_flips_do_not_depend_on_crops() -> None:
    ids = np.arange(1000, dtype=np.uint64)
    *_, plain = Augmentation(0, True).draws(0, 0, ids)
    *_, padded = Augmentation(4, True).draws(0, 0, ids)
    np.testing.assert_array_equal(plain, padded)
    *_, none = Augmentation(4, False).draws(0, 0, ids)
    assert not none.any()


def test_draws_are_even_and_independent() -> None:
    ids = np.arange(90_000, dtype=np.uint64)
    top, left, flip = Augmentation(4, True).draws(0, 0, ids)
    for place in (top, left):
        assert set(place.tolist()) == set(range(9))
        counts = np.bincount(place)
        assert abs(counts - 10_000).max() < 500
    assert abs(flip.mean() - 0.5) < 0.01
    together = np.corrcoef(np.stack([top, left, flip]).astype(float))
    assert abs(together - np.eye(3)).max() < 0.02
    later, *_ = Augmentation(4, True).draws(0, 1, ids)
    assert abs(np.corrcoef(top, later)[0, 1]) < 0.02


def test_padding_is_the_mean(data: DataSet) -> None:
    split = DeviceSplit(data, "train", "cpu")
    images, _ = split.batch(np.arange(len(split)), Augmentation(200), seed=0, epoch=0)
    outside = (images == 0).all(1).flatten(1).all(1)
    assert outside.float().mean() > 0.5


def test_an_epoch_sees_every_image_once(data: DataSet) -> None:
    split = DeviceSplit(data, "train", "cpu")
    batches = list(split.epoch(16, seed=0, epoch=0))
    assert [len(labels) for _, labels in batches] == [16, 16, 12]
    together = torch.cat([images for images, _ in batches])
    everything, _ = split.batch(np.arange(len(split)))
    order = epoch_order(0, 0, len(split))
    assert sorted(order.tolist()) == list(range(44))
    assert torch.equal(together, everything[order])
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels[order])


def test_an_epoch_has_its_own_order_and_augmentation(data: DataSet) -> None:
    """Each later epoch deals other batches of other crops of the same images."""
    split = DeviceSplit(data, "train", "cpu")
    augmentation = Augmentation(4, True)
    first, second = [], []
    for epoch, found in ((1, first), (2, second)):
        order = epoch_order(5, epoch, len(split))
        images = torch.cat([x for x, _ in split.epoch(16, 5, epoch, augmentation)])
        expected, _ = split.batch(order, augmentation, seed=5, epoch=epoch)
        assert torch.equal(images, expected)
        found += [order.tolist(), images[np.argsort(order)]]
    assert first[0] != second[0]
    moved = [not torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True)]
    assert sum(moved) > 0.9 * len(split)


def test_orders_belong_to_seed_and_epoch() -> None:
    orders = {(s, e): tuple(epoch_order(s, e, 50).tolist()) for s in (0, 1) for e in (0, 1)}
    assert len(set(orders.values())) == 4
    assert tuple(epoch_order(1, 0, 50).tolist()) == orders[1, 0]


def test_evaluation_is_in_order_and_never_augmented(data: DataSet) -> None:
    split = DeviceSplit(data, "val", "cpu")
    images, labels = map(torch.cat, zip(*split.sequential(4), strict=True))
    expected, _ = split.batch(np.arange(len(split)))
    assert torch.equal(images, expected)
    assert labels.tolist() == data.splits["val"].labels.tolist()


def test_training_images_are_normalized(data: DataSet) -> None:
    images, _ = DeviceSplit(data, "train", "cpu").batch(np.arange(44))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    deviation = images.std((0, 2, 3), correction=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-5, rtol=0)


def test_one_channel() -> None:
    digits = load(DataConfig(limit_per_class=3))
    images, labels = DeviceSplit(digits, "train").batch([0, 1, 2], Augmentation(1, True))
    assert images.shape == (3, 1, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == digits.splits["train"].labels[:3].tolist()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"crop_pad": -1}, "crop_pad"),
        ({"crop_pad": 1.5}, "crop_pad"),
        ({"crop_pad": 5000}, "crop_pad"),
        ({"flip": 1}, "flip"),
    ],
)
def test_bad_augmentations(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Augmentation(**options)  # type: ignore[arg-type]


def test_bad_requests(data: DataSet) -> None:
    with pytest.raises(InputError, match=r"no split called dev\. The splits are train, val, test"):
        DeviceSplit(data, "dev", "cpu")
    split = DeviceSplit(data, "train", "cpu")
    for size in (0, -3, 2.0, True):
        with pytest.raises(InputError, match="batch_size"):
            next(split.sequential(size))
        with pytest.raises(InputError, match="batch_size"):
            next(split.epoch(size, 0, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("free", [None, 100])
def test_a_cuda_device_gives_the_same_batches(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    """Held on the device where there is room, gathered from the memory map where there is not."""
    if free is not None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    here, there = (DeviceSplit(data, "train", device) for device in ("cpu", "cuda"))
    augmentation = Augmentation(3, True)
    rows = np.arange(40)
    expected, labels = here.batch(rows, augmentation, seed=1, epoch=1)
    got, got_labels = there.batch(rows, augmentation, seed=1, epoch=1)
    assert got.is_cuda
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.cpu(), expected)
    assert torch.equal(got_labels.cpu(), labels)
