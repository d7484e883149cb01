"""Marks at one place in a class, levels that end early, files saved alike, names in other words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from marked import MARKS
from normlab.checks.check import full_check
from normlab.checks.image_set import ImageSet, read_image_set
from normlab.checks.measures.filenames import file_names
from normlab.checks.measures.headers import headers
from normlab.checks.page.page import render
from normlab.checks.proportions import wilson
from normlab.checks.shortcuts import guessing
from normlab.checks.shortcuts.checks import SHORTCUTS
from normlab.checks.shortcuts.halves import cut, halves, judged
from normlab.checks.shortcuts.marks import Marks, marks
from normlab.checks.shortcuts.regions import in_words, places
from normlab.checks.shortcuts.saving import saved_alike, saving_findings
from normlab.checks.shortcuts.shortcuts import shortcuts
from normlab.data import DataConfig
from normlab.pages.findings import Level
from scenes import scene

SIDE, EACH = 48, 60
PLANTED = {
    "logo": ("red logo, 30 % of the width", 0.8, "at the top left"),
    "frame": ("thin dark frame", 0.6, "around the edge"),
    "edge": ("green edge on the right", 0.6, "along the right side"),
    "dot": ("yellow dot, 3 % of the width", 1.0, "at the bottom left"),
    "date": ("date, different in each image", 1.0, "at the bottom right"),
    "water": ("half-transparent watermark", 1.0, "in the centre"),
    "dark": ("25 % darker", 1.0, ""),
    "plain": ("", 0.0, ""),
}


def _written(root: Path, classes: Mapping[str, tuple[str, float]], each: int = EACH) -> ImageSet:
    """Scenes of one kind, a share of each class marked; names of files say nothing."""
    for number, (name, (how, share)) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        rng = np.random.default_rng(number)
        for index in range(each):
            image = scene(1000 * number + index, 0, SIDE)
            if index % 10 < 10 * share:
                image = MARKS[how](image, rng)
            image.save(root / name / f"{index:03d}.png")
    return read_image_set(DataConfig(str(root), image_size=SIDE))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    root = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMLAB_CACHE", str(root / "cache"))
        made = {name: (how, share) for name, (how, share, _) in PLANTED.items()}
        return _written(root / "set", made)


@pytest.fixture(scope="module")
def found(source: ImageSet) -> Marks:
    return marks(source)


def test_every_marked_class_is_named_with_its_place_and_share(found: Marks) -> None:
    named = {mark.name: mark for mark in found.marks}
    assert set(named) == {name for name, (_, _, place) in PLANTED.items() if place}
    for name, mark in named.items():
        _, share, place = PLANTED[name]
        assert place in in_words(mark.places)
        assert mark.judged.share == pytest.approx(share, abs=0.2)
        assert mark.judged.low <= mark.judged.share <= mark.judged.high
        assert mark.judged.others <= 0.05
    assert "about 3" in in_words(named["logo"].places)
    (sentence,) = (one.sentence for one in found.findings("shortcuts") if "dot" in one.sentence)
    assert "plain" not in sentence


def test_examples_of_a_mark_show_it(source: ImageSet, found: Marks) -> None:
    (mark,) = [one for one in found.marks if one.name == "edge"]
    for rows, green in ((mark.having, True), (mark.lacking, False)):
        assert rows
        column = source.images(list(rows))[:, :, -1].astype(int)
        near = np.abs(column - (30, 160, 70)).max(-1).mean(1) < 20
        assert near.tolist() == [green] * len(rows)
        assert {source.classes[label] for label in source.labels[list(rows)]} == {"edge"}


def test_a_darker_class_is_named_as_something_to_look_at(found: Marks) -> None:
    (tone,) = found.tones
    assert (tone.name, tone.bright) == ("dark", True)
    assert 180 <= tone.level <= 205
    (finding,) = [one for one in found.findings("shortcuts") if "levels end" in one.sentence]
    assert finding.level is Level.LOOK
    assert "of the images of dark nothing is brighter than" in finding.sentence


def test_two_classes_one_of_which_is_marked(cache: Path, tmp_path: Path) -> None:
    made = {"ant": ("white tag in a corner", 1.0), "bee": ("", 0.0)}
    result = marks(_written(tmp_path / "set", made, 40))
    (mark,) = result.marks
    assert mark.name == "ant"
    assert in_words(mark.places).startswith("at the top right")
    (finding,) = result.findings("shortcuts")
    assert finding.level is Level.INVALID
    assert json.loads(json.dumps(result.describe()))["marks"][0]["class"] == "ant"


def test_what_most_classes_carry_is_named_in_each_of_them(cache: Path, tmp_path: Path) -> None:
    made = dict.fromkeys("abc", ("red logo, 30 % of the width", 1.0)) | {"d": ("", 0.0)}
    result = marks(_written(tmp_path / "set", made, 30))
    assert {mark.name for mark in result.marks} == set("abc")


def test_nothing_is_named_where_nothing_was_planted(cache: Path, tmp_path: Path) -> None:
    made = dict.fromkeys("abcd", ("", 0.0))
    result = marks(_written(tmp_path / "set", made))
    assert not result.marks
    assert not result.tones
    digits = marks(read_image_set(DataConfig("digits")))
    assert digits.aligned
    assert not digits.marks
    assert not digits.tones


def test_objects_on_a_plain_ground_are_no_marks(cache: Path, tmp_path: Path) -> None:
    """Their edges are at the same place, white with another colour beside it, as a tag's are."""
    shapes = {"balls": "ellipse", "boxes": "rectangle", "bars": "rounded_rectangle"}
    for number, (name, shape) in enumerate(shapes.items()):
        (tmp_path / "set" / name).mkdir(parents=True)
        rng = np.random.default_rng(number)
        for index in range(EACH):
            image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
            inset = np.array([6, 6 + 5 * number, -7, -7 - 5 * number]) + rng.integers(-1, 2)
            fill = tuple(rng.integers(20, 235, 3).tolist())
            getattr(ImageDraw.Draw(image), shape)((inset % SIDE).tolist(), fill=fill)
            image.save(tmp_path / "set" / name / f"{index:03d}.png")
    result = marks(read_image_set(DataConfig(str(tmp_path / "set"), image_size=SIDE)))
    assert not result.marks
    assert not result.tones


def test_smoothly_enlarged_digits_have_no_marks(cache: Path, tmp_path: Path) -> None:
    """Aligned strokes with all levels of grey: the same grey and an edge at the same place."""
    digits = read_image_set(DataConfig("digits"))
    for digit in range(10):
        (tmp_path / "set" / str(digit)).mkdir(parents=True)
        for row in np.flatnonzero(digits.labels == digit)[:120].tolist():
            image = Image.fromarray(digits.images([row])[0, ..., 0])
            large = image.resize((28, 28), Image.Resampling.BICUBIC)
            large.save(tmp_path / "set" / str(digit) / f"{row}.png")
    result = marks(read_image_set(DataConfig(str(tmp_path / "set"))))
    assert result.aligned
    assert not result.marks
    assert not result.tones


def test_copies_of_a_few_images_are_no_mark(cache: Path, tmp_path: Path) -> None:
    """Forty files with the pixels of four pictures share everything, and show nothing."""
    image_set = _written(tmp_path / "set", {"a": ("", 0.0), "b": ("", 0.0)}, 30)
    content = [(tmp_path / "set" / "a" / f"00{at}.png").read_bytes() for at in range(4)]
    (tmp_path / "set" / "c").mkdir()
    for index in range(40):
        (tmp_path / "set" / "c" / f"{index}.png").write_bytes(content[index % 4] + bytes(index))
    image_set = read_image_set(DataConfig(str(tmp_path / "set"), image_size=SIDE))
    parts = halves(image_set)
    assert parts.classes == [0, 1]
    assert not marks(image_set).marks
    assert not np.intersect1d(np.concatenate(parts.find), np.concatenate(parts.judge)).size


def test_the_page_shows_the_place(source: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_TREES", 2)
    monkeypatch.setattr("normlab.checks.check.CHECKS", (SHORTCUTS,))
    check = full_check(source)
    written = render(check, command="normlab check-data")
    card = written.split("<h4>edge:")[1].split("</article>")[0]
    assert card.count('class="place"') == 2
    left = float(card.split('style="left:')[1].split("%")[0])
    assert left > 90
    assert "Mean image of edge" in card
    assert "Mean image of other classes than edge" in card
    assert "nothing brighter than level" in written
    assert {one["class"] for one in check.describe()["shortcuts"]["at_one_place"]["marks"]} >= {
        "edge",
        "dot",
    }


# Parts


def test_places_in_words() -> None:
    region = np.zeros((64, 64), np.bool_)
    region[4:14, 5:15] = True
    assert in_words(places(region)) == "at the top left, about 16 % of the width"
    region[60:, :] = True
    assert in_words(places(region)) == "across the bottom and at the top left"


def test_a_cut_separates_and_counts_classes_alike() -> None:
    own = np.array([5.0, 6, 7, 0])
    others = [np.zeros(100), np.array([6.0, 0])]
    threshold, distance = cut(own, others)
    assert threshold == 5
    assert distance == pytest.approx(0.75 - 0.25)
    has = [own >= threshold, others[0] >= threshold, others[1] >= threshold]
    counted = judged(has, 0, [0])
    assert (counted.share, counted.others) == (0.75, 0.25)
    assert counted.low == pytest.approx(wilson(0.75, 4)[0])
    # Classes that have it too are not among the others.
    assert judged(has, 0, [0, 2]).others == 0


def test_files_saved_alike_are_named_and_why(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("ant", "bee", "cow"):
        (root / name).mkdir(parents=True)
        for index in range(30):
            quality = 75 if name == "ant" else 60 + (7 * index) % 35
            exif = Image.Exif()
            exif[0x0131] = "Darkroom 3" if name == "bee" else f"Program {index % 7}"
            image = scene(index, 0, 16)
            image.save(root / name / f"{index}.jpg", quality=quality, exif=exif)
    source = read_image_set(DataConfig(str(root)))
    about = headers(source)
    assert about is not None
    result = saved_alike(about, source.labels, source.classes)
    assert {(one.kind, one.name) for one in result} == {("saved", "ant"), ("stated", "bee")}
    said = [finding.sentence for finding in saving_findings("shortcuts", result)]
    assert "ant (100 %: JPEG of quality 75" in said[0]
    assert "bee (100 %: program Darkroom 3" in said[1]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("bee_eater_0001", True),
        ("AsianGreenBeeEater (3)", True),
        ("agbe_12", True),
        ("green bee eaters 7", True),
        ("Asian-Green-Bee-Eater-4f2a91bc", True),
        ("bee_eater_edited_1", False),
        ("DSC0001", False),
        ("0001", False),
        ("House-Crow_1", False),
    ],
)
def test_a_class_in_other_words(name: str, own: bool) -> None:
    classes = ["Asian-Green-Bee-Eater", "House-Crow"]
    found = file_names([f"{classes[0]}/{name}.jpg"], np.array([0]), classes)
    assert found.own.tolist() == [own]


def test_names_that_repeat_the_class_are_no_shortcut(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "_TREES", 4)
    styles = {
        "Asian-Green-Bee-Eater": "bee_eater_{:04d}",
        "House-Crow": "HouseCrow ({})",
        "Cattle-Egret": "ce_{}",
        "Hoopoe": "{:05d}",
    }
    for number, (name, style) in enumerate(styles.items()):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(20):
            image = scene(100 * number + index, 0, 16)
            image.save(tmp_path / "set" / name / f"{style.format(index)}.png")
    result = shortcuts(read_image_set(DataConfig(str(tmp_path / "set"))))
    assert not [one for one in result.cues if one.shortcut and one.name.startswith("name")]
    assert not any("file name" in one.sentence for one in result.findings() if one.advice)
