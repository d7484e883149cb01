"""A small study on pictures of discs, for the tests of the gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.data import load
from normlab.studies import Request, Study, make_plan, prepare_study
from normlab.training import train

COLOURS = {"blue": (40, 60, 220), 'green & <i>"x"': (30, 180, 60), "red": (220, 40, 30)}
"""One class has a name that means something to a page and to a path."""
COUNTS = {"train": 10, "val": 7, "test": 2}
WIDTH, HEIGHT = 56, 40
IMAGE_SIZE = 16


def paint(seed: int, colour: tuple[int, int, int]) -> Image.Image:
    """A disc somewhere on noise, wider than high."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 180, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    y, x = rng.integers(12, HEIGHT - 12), rng.integers(18, WIDTH - 18)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    pixels[(ys - y) ** 2 + (xs - x) ** 2 < 81] = colour
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders. Of each class in val, the last two images are of the next colour."""
    root = tmp_path_factory.mktemp("discs") / "discs"
    colours = list(COLOURS.values())
    for split, count in COUNTS.items():
        for label, name in enumerate(COLOURS):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                off = split == "val" and index >= count - 2
                seed = 1000 * label + 100 * len(split) + index
                picture = paint(seed, colours[(label + off) % len(colours)])
                picture.save(root / split / name / f"{index:02d}.png")
    return root


@pytest.fixture(scope="session")
def disc_study(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two arms, one seed, complete."""
    settings = {"n": 1, "epochs": 4, "batch_size": 6, "lr": 0.05}
    plan = make_plan(
        Request.of(
            "norms", discs, image_size=IMAGE_SIZE, arms="bn,gn:groups=4", seeds=1, **settings
        )
    )
    folder = tmp_path_factory.mktemp("disc-study") / "study"
    study = prepare_study(folder, plan, load(plan.data), "normlab compare")
    study.write()
    for _, config, where in study.runs():
        train(config, study.data, where)
    return study
