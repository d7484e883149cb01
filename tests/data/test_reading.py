"""What reading fast must keep: batches come from the file, memory stays flat, bits are exact."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normlab.data import Augmentation, DataConfig, DataSet, DeviceSplit, load

Make = Callable[..., Path]
SIDE = 64

EPOCH = """
import json, sys
from pathlib import Path
from normlab.data import Augmentation, DataConfig, DeviceSplit, load

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024

grown = []
for source in sys.argv[1:]:
    data = load(DataConfig(source))
    before = anonymous()
    split = DeviceSplit(data, "train")
    grown.append(max(anonymous() for _ in split.epoch(64, 0, 1, Augmentation(4, True))) - before)
print(json.dumps(grown))
"""


def write_idx(root: Path, count: int) -> Path:
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (200, SIDE, SIDE), dtype=np.uint8)
    sizes = b"".join(number.to_bytes(4, "big") for number in (count, SIDE, SIDE))
    body = pixels.tobytes() * (count // 200)
    (root / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + sizes + body)
    labels = bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes([0, 1]) * (count // 2)
    (root / "train-labels-idx1-ubyte").write_bytes(labels)
    return root


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_an_epoch_takes_no_memory_for_the_set(tmp_path: Path, cache: Path) -> None:
    """The pixels of the larger set are 98 MB, of which 69 MB are the training split's."""
    sources = [str(write_idx(tmp_path / str(count), count)) for count in (800, 24_000)]
    for source in sources:
        load(DataConfig(source))
    done = subprocess.run(
        [sys.executable, "-c", EPOCH, *sources], capture_output=True, text=True, check=True
    )
    # The first walk also makes the buffers that the second finds. Where the allocator puts those of
    # a batch moves the number by up to 12 MB, at any size of the set.
    _, grown = json.loads(done.stdout)
    assert grown < 20


def test_a_batch_can_be_written_to(write: Make, cache: Path) -> None:
    data = load(DataConfig(str(write({"a": 20, "b": 20}))))
    images = data.splits["train"].images([3])
    kept = images.copy()
    images[:] = 0
    np.testing.assert_array_equal(data.splits["train"].images([3]), kept)


def bits(images: torch.Tensor) -> np.ndarray:
    return images.contiguous().numpy().view(np.uint32)


@pytest.fixture(params=["colour", "grey"])
def data(request: pytest.FixtureRequest, write: Make, cache: Path) -> DataSet:
    if request.param == "grey":
        return load(DataConfig(limit_per_class=4))
    return load(DataConfig(str(write({"a": 20, "b": 20}))))


@pytest.mark.parametrize(
    "augmentation",
    [None, Augmentation(flip=True), Augmentation(2), Augmentation(3, True), Augmentation(40, True)],
)
def test_batches_are_exact_to_the_bit(data: DataSet, augmentation: Augmentation | None) -> None:
    """A run's weights are promised bit for bit, so a batch's are: one subtraction, one division."""
    split, channels = DeviceSplit(data, "train"), data.channels
    rows = np.arange(len(split))[::-1].copy()
    mean, std = (
        torch.tensor(values, dtype=torch.float64).mul(255).float().view(channels, 1, 1)
        for values in (data.mean, data.std)
    )
    pixels = torch.from_numpy(split.split.images(rows)).permute(0, 3, 1, 2).contiguous()
    expected = (pixels.float() - mean) / std
    if augmentation:
        pad, side = augmentation.crop_pad, data.image_size
        draws = augmentation.draws(5, 2, split.split.ids[rows])
        padded = torch.nn.functional.pad(expected, (pad, pad, pad, pad))
        parts = []
        for image, top, left, flip in zip(padded, *(part.tolist() for part in draws), strict=True):
            part = image[:, top : top + side, left : left + side]
            parts.append(part.flip(2) if flip else part)
        expected = torch.stack(parts)
    images, _ = split.batch(rows, augmentation, seed=5, epoch=2)
    np.testing.assert_array_equal(bits(images), bits(expected))


@pytest.mark.parametrize("augmentation", [None, Augmentation(2, True)])
def test_an_empty_batch(data: DataSet, augmentation: Augmentation | None) -> None:
    images, labels = DeviceSplit(data, "train").batch([], augmentation)
    assert images.shape == (0, data.channels, data.image_size, data.image_size)
    assert labels.shape == (0,)


def test_mean_and_deviation_of_large_bright_images(tmp_path: Path, cache: Path) -> None:
    """The squares of one image add up to more than 32 bits."""
    rng = np.random.default_rng(0)
    written = []
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            pixels = rng.integers(200, 256, (300, 300, 3), dtype=np.uint8)
            pixels[..., 0] = 255
            folder = tmp_path / "bright" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "0.png")
            if split == "train":
                written.append(pixels / 255)
    data = load(DataConfig(str(tmp_path / "bright"), image_size=300))
    np.testing.assert_allclose(data.mean, np.mean(written, axis=(0, 1, 2)), rtol=1e-12)
    std = np.std(written, axis=(0, 1, 2))
    std[0] = 1
    np.testing.assert_allclose(data.std, std, rtol=1e-9)


def test_rows_of_a_set_larger_than_memory_are_announced(
    write: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The places announced hold exactly the images that are read next."""
    import os

    from normlab.data import dataset as module

    data = load(DataConfig(str(write({"a": 9, "b": 9}))))
    split = data.splits["train"]
    rows = [5, 0, 3]
    plain = split.images(rows)
    announced: list[tuple[int, int]] = []

    def advise(_: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        announced.append((start, length))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    np.testing.assert_array_equal(split.images(rows), plain)
    assert announced == []  # a set that fits is left to the system
    monkeypatch.setattr(module, "_SHARE_OF_MEMORY", 0.0)
    np.testing.assert_array_equal(split.images(rows), plain)
    content = split._pixels.path.read_bytes()
    assert [content[start : start + length] for start, length in announced] == [
        image.tobytes() for image in plain
    ]
