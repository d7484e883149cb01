"""The page of the data check: what it says, which pictures it shows, names that are no markup."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from normlab.checks import (
    CHECKS,
    NEAR,
    CleanSplit,
    DataCheck,
    clean_part,
    clean_split,
    full_check,
    read_image_set,
    render,
)
from normlab.checks.copies import page as copies_page
from normlab.checks.copies.decisions import decisions_about, read_decisions
from normlab.checks.copies.groups import grouped
from normlab.checks.copies.laid import BEYOND, laid_on
from normlab.checks.copies.table import copies_csv
from normlab.checks.health import page as health_page
from normlab.checks.shortcuts import guessing
from normlab.checks.shortcuts import page as shortcuts_page
from normlab.data import DataConfig
from normlab.files import csv_plain
from normlab.pages.findings import Level
from normlab.pages.images import data_uri

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenes import COPIES, ListedPairs, is_plain, scene

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., tuple["Page", Any]]

HOSTILE = "<script>alert('x')<script>"
CLASSES = ("crane", 'a & "b"', HOSTILE, "heron")
SIDE = 48
COMMAND = "normlab check-data 'a <b> place'"


def _save(image: Image.Image, root: Path, split: str, name: str, file: str) -> None:
    (root / split / name).mkdir(parents=True, exist_ok=True)
    image.save(root / split / name / file)


def _full(seed: int, kind: int) -> int:
    """The next seed whose scene has details."""
    while is_plain(seed, kind):
        seed += 1000
    return seed


def _checked(config: DataConfig) -> DataCheck:
    """With small forests: their accuracy is not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guessing, "_TREES", 3)
        return full_check(read_image_set(config))


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> DataCheck:
    """Exact and near copies across splits, conflicts of both kinds, corners, unreadable files."""
    root = tmp_path_factory.mktemp("trouble") / "<i>set</i>".replace("/", "_")
    rng = np.random.default_rng(0)
    made = {}
    for kind, name in enumerate(CLASSES):
        for split, first, count in (("train", 0, 14), ("val", 100, 4), ("test", 200, 4)):
            for index in range(count):
                image = scene(_full(first + index, kind), kind, SIDE)
                if name == "heron":
                    image = COPIES["rotated, black corners"](image, rng)
                made[name, split, index] = image
                _save(image, root, split, name, f"{index:02d}.png")
    for index, how in enumerate(("cropped", "flipped or quarter-turned", "rotated and zoomed")):
        copy = COPIES[how](made["crane", "train", index], rng)
        _save(copy, root, "test", "crane", f"copy {index}.png")
    _save(made["crane", "train", 9], root, "val", "crane", "again.png")
    _save(made["crane", "train", 10], root, "train", HOSTILE, "=other label.png")
    mirrored = made["crane", "train", 11].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    _save(mirrored, root, "test", HOSTILE, "mirrored.png")
    (root / "train" / "crane" / "<b>broken.png").write_bytes(b"nothing")
    return _checked(DataConfig(str(root), image_size=SIDE, skip_bad=True))


@pytest.fixture(scope="module")
def clean(trouble: DataCheck) -> CleanSplit:
    return clean_split(trouble.of(NEAR))


@pytest.fixture(scope="module")
def written(trouble: DataCheck, clean: CleanSplit) -> str:
    return render(trouble, more=[clean_part(trouble.of(NEAR), clean)], command=COMMAND)


@pytest.fixture(scope="module")
def pages(trouble: DataCheck, written: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """With trouble, and of small images without."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "trouble.html").write_text(written, encoding="utf-8")
    digits = _checked(_few_digits(folder))
    fine = render(digits, command="normlab check-data digits")
    (folder / "fine.html").write_text(fine, encoding="utf-8")
    return [folder / "trouble.html", folder / "fine.html"]


def _few_digits(folder: Path) -> DataConfig:
    from sklearn.datasets import load_digits

    found = load_digits()
    for label in (0, 1):
        for index in np.flatnonzero(found.target == label)[:20].tolist():
            image = Image.fromarray((found.images[index] * 15).astype(np.uint8))
            _save(image, folder / "digits", "train", str(label), f"{index}.png")
    return DataConfig(str(folder / "digits"))


def _text(written: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", written)))


def _decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def _images(part: str) -> Iterator[tuple[str, Image.Image]]:
    """Alternative text and picture of each image element, in order."""
    for src, alt in re.findall(r'<img src="([^"]*)" alt="([^"]*)"', part):
        yield html.unescape(alt), _decoded(src)


def _section(written: str, name: str) -> str:
    return written.split(f'aria-labelledby="{name}"', 1)[1].split("</section>", 1)[0]


def test_every_finding_is_told_with_its_advice_worst_first(
    trouble: DataCheck, written: str
) -> None:
    findings = trouble.findings()
    assert {finding.level for finding in findings} == set(Level)
    listed = _text(written.split('aria-label="Findings"')[1].split("<nav")[0])
    for finding in findings:
        assert f"{str(finding.level).capitalize()}: {finding.sentence}" in listed
        assert finding.advice in listed
    levels = re.findall(r'class="level (\w+)"', written)
    assert levels == sorted(levels, key=["invalid", "look", "fine"].index)
    # What is fine is folded, and nothing else is.
    folded = written.split('<details class="fold">')[1].split("</details>")[0]
    assert set(re.findall(r'class="level (\w+)"', folded)) == {"fine"}
    assert folded.count('class="level') == levels.count("fine")
    for target in re.findall(r'href="#(\w+)"', written):
        assert f'id="{target}"' in written


def test_pairs_show_the_right_pictures_and_names(trouble: DataCheck, written: str) -> None:
    whole = trouble.image_set
    every = whole.images().astype(int)
    near = trouble.of(NEAR).near
    pairs = {tuple(sorted(whole.names[pair].tolist())) for pair in near.pairs}
    cards = _section(written, "shared").split('<article class="pair"')[1:]
    cards += _section(written, "conflicts").split('<article class="pair"')[1:]
    assert len(cards) >= 4
    for card in cards:
        (first, one), (second, two), (laid, three) = _images(card)
        names = [
            re.sub(r", (training|validation|test), .*", "", alt.partition(": ")[2])
            for alt in (first, second)
        ]
        assert tuple(sorted(names)) in pairs
        assert laid == f"{names[0]} laid on {names[1]}"
        for name, shown in zip(names, (one, two), strict=True):
            apart = np.abs(np.asarray(shown, int) - every).mean((1, 2, 3))
            closest = np.flatnonzero(apart == apart.min())
            assert name in whole.names[closest]
            assert f"{name}" in _text(card)
        # The first laid on the second shows what the second shows, where it reaches.
        moved, target = np.asarray(three, float), np.asarray(two, float)
        inside = np.abs(moved - BEYOND).max(-1) > 12
        assert inside.mean() > 0.3
        before = np.abs(np.asarray(one, float) - target)[inside].mean()
        after = np.abs(moved - target)[inside].mean()
        assert after < 16
        assert after < before


def test_across_splits_and_conflicts_name_every_planted_file(written: str) -> None:
    shared, conflicts = (_text(_section(written, name)) for name in ("shared", "conflicts"))
    for name in ("copy 0.png", "copy 1.png", "copy 2.png", "val/crane/again.png"):
        assert name in shared
    assert "=other label.png" in conflicts
    assert "mirrored.png" in conflicts
    assert "mirrored.png" not in shared
    health = _text(_section(written, "health"))
    assert "train/crane/<b>broken.png" in health
    cues = _text(_section(written, "shortcuts"))
    assert "heron: filled corners" in cues
    assert "crane: filled corners" not in cues


def _with_pairs(trouble: DataCheck, pairs: dict[tuple[int, int], float]) -> str:
    """The page of the same images if the search had listed these pairs."""
    before = trouble.of(NEAR)
    results = trouble.results.only(*CHECKS)
    results.add(NEAR, grouped(before.image_set, before.exact, ListedPairs.of(pairs)))
    return render(replace(trouble, results=results), command=COMMAND)


def test_pairs_are_shown_in_order_of_doubt(trouble: DataCheck) -> None:
    """Nearest to even chances first, sure ones last, with the probability."""
    names = trouble.image_set.names.tolist()
    of = {name: names.index(f"{name}.png") for name in (
        *(f"train/crane/{n:02d}" for n in range(4)), *(f"test/crane/{n:02d}" for n in range(4))
    )}  # fmt: skip
    chances = {0: 0.98, 1: 0.62, 2: 0.9, 3: 0.41}
    page = _with_pairs(
        trouble,
        {(of[f"train/crane/{n:02d}"], of[f"test/crane/{n:02d}"]): p for n, p in chances.items()},
    )
    shown = re.findall(r"Probability ([\d.]+)", _section(page, "shared"))
    assert shown == ["0.41", "0.62", "0.90", "0.98"]
    assert "4 pairs were found, 1 of them sure" in _text(page)


def test_what_the_search_misses_is_said_only_once_it_was_measured(
    trouble: DataCheck, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Under a watermark" in _text(_section(written, "missed"))
    monkeypatch.setattr(copies_page, "MISSED", ())
    assert 'aria-labelledby="missed"' not in render(replace(trouble), command=COMMAND)
    monkeypatch.setattr(copies_page, "MISSED", (("Cropped to 80 %", 0.08, 0.21),))
    part = _text(_section(render(replace(trouble), command=COMMAND), "missed"))
    assert "Cropped to 80 %" in part
    assert "8.0 % to 21 %" in part


def test_a_pair_counts_as_crossing_when_an_equal_file_lies_in_the_other_split(
    trouble: DataCheck,
) -> None:
    """The search keeps the first of equal files, which may all lie in training."""
    names = trouble.image_set.names.tolist()
    one, two = names.index("train/crane/09.png"), names.index("train/crane/08.png")
    shown = _section(_with_pairs(trouble, {(two, one): 0.8}), "shared")
    (card,) = shown.split('<article class="pair"')[1:]
    assert "val/crane/again.png" in _text(card)
    assert "1 between training and validation" in _text(shown)


def test_names_from_the_source_are_text(written: str) -> None:
    assert HOSTILE in _text(written)
    assert HOSTILE not in written
    assert written.count("<script") == 1
    assert "<b>" not in written
    assert "<i>set" not in written
    # Quotation marks in a name do not end an attribute.
    assert not re.search(r'(alt|title)="[^"]*a & "', written)
    assert html.escape(COMMAND) in written or COMMAND in html.unescape(written)


def test_nothing_is_loaded_from_elsewhere_and_the_page_is_small(written: str) -> None:
    assert not re.search(r"https?://", written.replace("http://www.w3.org/2000/svg", ""))
    assert all(src.startswith("data:image/") for src in re.findall(r'src="([^"]*)"', written))
    assert "url(" not in written
    assert len(written) < 1.5e6


def test_the_number_of_pictures_is_bounded(
    trouble: DataCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = render(trouble, command=COMMAND).count("<img")
    for page, name, value in (
        (copies_page, "PAIRS", 3),
        (copies_page, "GROUPS", 1),
        (copies_page, "OF_A_GROUP", 2),
        (shortcuts_page, "MARKED", 0),
        (health_page, "OF_ALL_CLASSES", 4),
    ):
        monkeypatch.setattr(page, name, value)
    # The parts of a check are made once; a new one has none yet.
    few = render(replace(trouble), command=COMMAND)
    assert few.count("<img") < whole / 2
    # One image per class where there are many classes.
    assert _section(few, "classes").count("<img") == len(CLASSES)


def test_the_clean_split_says_what_moved_and_how_to_use_it(
    trouble: DataCheck, clean: CleanSplit, written: str
) -> None:
    part = _section(written, "clean")
    for sentence in clean.sentences():
        assert sentence in _text(part)
    assert "normlab compare --data SOURCE --split F.json" in _text(part)
    rows = re.findall(r"from (\w+)</th>(.*?)</tr>", part)
    numbers = np.array([[int(n) for n in re.findall(r">(\d+)<", row)] for _, row in rows])
    assert numbers.sum() == len(trouble.image_set)
    assert numbers.sum() - np.trace(numbers) == len(clean.moved)
    without = render(trouble, more=[clean_part(trouble.of(NEAR), None)], command=COMMAND)
    assert "--write-split F.json" in _text(_section(without, "clean"))


def test_pairs_csv_has_every_copy(trouble: DataCheck) -> None:
    copies, whole = trouble.of(NEAR), trouble.image_set
    rows = list(csv.DictReader(io.StringIO(copies_csv(copies))))
    place = {name: row for row, name in enumerate(whole.names.tolist())}
    node = copies.exact.group
    exact = [row for row in rows if row["kind"] != "near"]
    assert {row["kind"] for row in exact} == {"exact bytes"}
    # One row less than each image has files, all of them with the first.
    assert len(exact) == len(whole) - len(np.unique(node)) == 2
    near = {}
    for row in rows:
        one, two = place[row["first"]], place[csv_plain(row["second"])]
        for side, at in (("first", one), ("second", two)):
            assert row[f"{side}_split"] == whole.names[at].split("/")[0]
            assert row[f"{side}_class"] == whole.classes[whole.labels[at]]
            assert row[f"{side}_content"] == f"x{whole.contents[at]:016x}"
        assert row["across"] == ("yes" if whole.split[one] != whole.split[two] else "no")
        if row["kind"] == "near":
            near[frozenset((node[one], node[two]))] = float(row["probability"])
        else:
            assert (node[one], row["probability"]) == (node[two], "1")
    expected = {
        frozenset(node[pair].tolist()): min(float(p), 0.9999)
        for pair, p in zip(copies.near.pairs, copies.near.probability, strict=True)
    }
    assert near == pytest.approx(expected, abs=1e-4)


@pytest.mark.xdist_group("browser")
def test_decisions_made_on_the_page_are_read_back(
    open_page: OpenPage, pages: list[Path], trouble: DataCheck, tmp_path: Path
) -> None:
    opened, watch = open_page(pages[0])
    bar = opened.locator(".deciding")
    assert not bar.is_visible()
    cards = opened.locator(".pair")
    first, second = cards.nth(0), cards.nth(1)
    names = [frozenset(card.locator(".name").all_text_contents()) for card in (first, second)]
    first.get_by_role("button", name="Different").click()
    second.get_by_role("button", name="Different").click()
    second.get_by_role("button", name="Copies").click()
    assert "2 pairs decided." in bar.inner_text()
    with opened.expect_download() as download:
        bar.get_by_role("button").click()
    file = tmp_path / "decisions.csv"
    download.value.save_as(file)
    assert watch.complaints == []
    rows = read_decisions(file)
    assert {frozenset(row.names): row.copy for row in rows} == {names[0]: False, names[1]: True}
    made = decisions_about(trouble.image_set, rows, file)
    assert (len(made), made.copies) == (2, 1)


def test_small_images_are_embedded_without_loss() -> None:
    rng = np.random.default_rng(0)
    for shape in ((28, 28, 1), (32, 32, 3)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        shown = np.asarray(_decoded(data_uri(pixels))).reshape(shape)
        np.testing.assert_array_equal(shown, pixels)
    assert _decoded(data_uri(rng.integers(0, 256, (300, 300, 3), np.uint8), 80)).size == (80, 80)


def test_laid_on_follows_the_map_and_the_bars() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 40, 40, 3), np.uint8)
    mirror = np.array([[[-1, 0, 0], [0, 1, 0]]], np.float32)
    np.testing.assert_array_equal(laid_on(image, image, mirror), image[:, :, ::-1])
    # A quarter of the width to the right: the last quarter lies beyond the first image.
    moved = laid_on(image, image, np.array([[[1, 0, 0.5], [0, 1, 0]]], np.float32))
    np.testing.assert_array_equal(moved[:, :, :30], image[:, :, 10:])
    assert (moved[:, :, 30:] == BEYOND).all()
    # The second is the first between bars: the map is between what they leave.
    barred = np.zeros((1, 40, 40, 3), np.uint8)
    inner = np.asarray(Image.fromarray(image[0]).resize((30, 30), Image.Resampling.BOX))
    barred[0, 5:35, 5:35] = inner
    # The box leaves out one line more than is flat on every side: 28 of 40 pixels.
    share = 28 / 30
    into = np.array([[[share, 0, 0], [0, share, 0]]], np.float32)
    laid = laid_on(image, barred, into)[0, 6:34, 6:34].astype(float)
    shifted = laid_on(image, image, into)[0, 6:34, 6:34].astype(float)
    close = np.abs(laid - barred[0, 6:34, 6:34]).mean()
    assert close < 0.6 * np.abs(shifted - barred[0, 6:34, 6:34]).mean()


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_offline_quiet_and_within_its_width(
    open_page: OpenPage, pages: list[Path], width: int, scheme: str
) -> None:
    # Small images alone are drawn as squares.
    for path, drawn in zip(pages, ("auto", "pixelated"), strict=True):
        opened, watch = open_page(path, width, scheme)
        assert [url for url in watch.requests if not url.startswith("data:")] == [path.as_uri()]
        assert watch.complaints == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        broken = "all => all.filter(i => !i.naturalWidth || !i.alt).length"
        assert opened.locator("img").evaluate_all(broken) == 0
        style = "i => getComputedStyle(i).imageRendering"
        assert opened.locator("img").first.evaluate(style) == drawn


@pytest.mark.xdist_group("browser")
def test_a_laid_picture_flips_to_the_second_by_keyboard(
    open_page: OpenPage, pages: list[Path]
) -> None:
    opened, watch = open_page(pages[0])
    card = opened.locator(".pair", has=opened.locator(".flip")).filter(has_text="copy 0.png").first
    laid, second = card.locator(".laid img"), card.locator(".second img")
    before = laid.get_attribute("src")
    assert before != second.get_attribute("src")
    card.locator(".flip").focus()
    opened.keyboard.press("Enter")
    assert laid.get_attribute("src") == second.get_attribute("src")
    assert card.locator(".flip").get_attribute("aria-pressed") == "true"
    opened.keyboard.press("Enter")
    assert laid.get_attribute("src") == before
    assert watch.complaints == []


def test_a_source_of_one_split_of_files_is_checked(pages: list[Path]) -> None:
    text = _text(pages[1].read_text(encoding="utf-8"))
    assert "Splits drawn, not in the source" in text
    assert "Seed of drawn splits" in text
