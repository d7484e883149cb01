"""Image folders written on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Make = Callable[..., Path]


def noise(seed: int, height: int = 12, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that starts empty, and the folder in which its entries appear."""
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def write(tmp_path: Path) -> Make:
    """``write({"train/a": 3, "train/b": 2})`` makes so many PNG files in each folder."""

    def make(folders: dict[str, int], root: str = "set", side: int = 12) -> Path:
        made = tmp_path / root
        made.mkdir(exist_ok=True)
        for number, (folder, count) in enumerate(folders.items()):
            (made / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = noise(1000 * number + index, side, side)
                Image.fromarray(pixels).save(made / folder / f"{index:03d}.png")
        return made

    return make
