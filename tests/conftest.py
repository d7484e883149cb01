"""What every test shares: one thread, a cache of its own, no reach into the user's folders; and a
browser for those that look at a page."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell that starts tests in the background has Ctrl-C ignored, and children inherit that;
    # the tests that stop a process in the middle need the usual state.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests run side by side, so whatever would take all cores takes one.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


ROOT = Path(__file__).parents[1]
TOOLS = {".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache", "build", "__pycache__"}


@pytest.fixture(scope="session", autouse=True)
def _clean_tree() -> Iterator[None]:
    """No test leaves anything in the repository: a study with a relative folder once did."""
    before = {path.name for path in ROOT.iterdir()}
    yield
    left = {path.name for path in ROOT.iterdir()} - before - TOOLS
    assert not left, f"tests left {', '.join(sorted(left))} in {ROOT}"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("NORMLAB_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session", autouse=True)
def _power_stays_on() -> Iterator[None]:
    """No test cuts the power, so nothing has to wait until what it wrote has reached the disk."""

    def not_waiting(descriptor: int) -> None:
        os.fstat(descriptor)  # an error where the file is not open, as before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", not_waiting)
        yield


@dataclass
class Watch:
    """What a page asked for and complained of."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is here")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


OpenPage = Callable[..., "tuple[Page, Watch]"]


@contextmanager
def _opening(browser: Browser) -> Iterator[OpenPage]:
    opened: list[Page] = []

    def open_one(path: Path, width: int = 1280, scheme: str = "light") -> tuple[Page, Watch]:
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        opened.append(page)
        watch = Watch()

        def refuse(dialog: Dialog) -> None:
            watch.complaints.append(dialog.message)
            dialog.dismiss()

        page.on("request", lambda request: watch.requests.append(request.url))
        page.on("console", lambda message: watch.complaints.append(message.text))
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))
        page.on("dialog", refuse)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        return page, watch

    yield open_one
    for page in opened:
        page.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """``open_page(path, width, scheme)``: the page once its script is done, and what it did."""
    with _opening(browser) as open_one:
        yield open_one


@pytest.fixture(scope="module")
def keep_open(browser: Browser) -> Iterator[OpenPage]:
    """As ``open_page``, for a page that several tests look at and leave as it was."""
    with _opening(browser) as open_one:
        yield open_one


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are made and written, but their pictures are blank: for tests of studies, which look
    at numbers and pages. Drawing is half of what a small study takes."""
    import vl_convert

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec, **_: "<svg/>")
    monkeypatch.setattr(vl_convert, "svg_to_png", lambda svg, **_: b"PNG")


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


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders of 24 real files each, told apart by colour."""
    generator = np.random.default_rng(0)
    for name, tint in (("Robin", 200), ("Wren", 60)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(24):
            pixels = generator.integers(0, 40, (20, 24, 3)) + np.array([tint, 90, 120])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "photos"
