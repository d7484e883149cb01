"""Shortcuts: planted ones are found and named, and nothing is called that is not there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.stats import binomtest

from normlab.checks.image_set import ImageSet, read_image_set
from normlab.checks.measures import frames, headers
from normlab.checks.measures.filenames import file_names
from normlab.checks.proportions import wilson
from normlab.checks.shortcuts import corners, guessing
from normlab.checks.shortcuts.corners import FilledCorners, filled_corners
from normlab.checks.shortcuts.cues import Cue, cues
from normlab.checks.shortcuts.shortcuts import Shortcuts, shortcuts
from normlab.data import DataConfig
from normlab.pages.findings import Level, worst

SIDE = 64
Make = Callable[[int], Image.Image]


def photo(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Smooth colours with shapes and noise, and nothing flat; brightness as in photographs."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(70, 180)
    coarse = np.clip(base + rng.normal(0, 35, (5, 5, 3)), 30, 235).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(3, 15)
        fill = tuple(rng.integers(30, 230, 3).tolist())
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    noisy = np.asarray(image) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 25, 235).astype(np.uint8))


def turned(seed: int, fill: int | tuple[int, int, int] = 0) -> Image.Image:
    rng = np.random.default_rng([seed, 1])
    angle = rng.uniform(8, 35) * rng.choice([-1, 1])
    colour = (fill,) * 3 if isinstance(fill, int) else fill
    return photo(seed).rotate(angle, Image.Resampling.BICUBIC, fillcolor=colour)


def sheared(seed: int) -> Image.Image:
    rng = np.random.default_rng([seed, 2])
    a, b = rng.uniform(0.15, 0.4, 2) * rng.choice([-1, 1], 2)
    half = SIDE / 2
    matrix = (1.1, a, -half * (0.1 + a), b, 1.1, -half * (0.1 + b))
    return photo(seed).transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, fillcolor=(0, 0, 0))


def padded(seed: int, fill: int = 0) -> Image.Image:
    bar = int(np.random.default_rng([seed, 3]).integers(4, 14))
    made = Image.new("RGB", (SIDE, SIDE), (fill,) * 3)
    made.paste(photo(seed, SIDE, SIDE - 2 * bar), (0, bar))
    return made


def dark_cornered(seed: int) -> Image.Image:
    """A lens that darkens towards its corners, down to black."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    shade = np.clip(2.6 - 2.2 * np.hypot(x, y), 0, 1)[..., None]
    return Image.fromarray((np.asarray(photo(seed)) * shade).astype(np.uint8))


def on_black(seed: int) -> Image.Image:
    """A ragged object on a ground that is exactly black."""
    rng = np.random.default_rng([seed, 4])
    angle = np.sort(rng.uniform(0, 2 * np.pi, 14))
    radius = rng.uniform(0.4, 1.0, 14) * SIDE * 0.48
    corners = [
        (SIDE / 2 + r * np.cos(t), SIDE / 2 + r * np.sin(t))
        for r, t in zip(radius, angle, strict=True)
    ]
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return Image.composite(photo(seed), Image.new("RGB", (SIDE, SIDE)), mask)


def pixels(make: Make, count: int = 40, quality: int | None = 88) -> np.ndarray:
    """(count, S, S, 3), by way of JPEG."""
    made = []
    for seed in range(count):
        image = make(seed)
        if quality is not None:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality)
            image = Image.open(file)
        made.append(np.asarray(image))
    return np.stack(made)


def written(root: Path, classes: Mapping[str, Make], count: int = 40) -> ImageSet:
    for number, (name, make) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            make(1000 * number + index).save(root / name / f"{index:03d}.jpg", quality=88)
    return read_image_set(DataConfig(str(root)))


def mixed(share: float, make: Make, other: Make = photo) -> Make:
    return lambda seed: (make if seed % 100 < share * 40 else other)(seed)


def marked(found: FilledCorners, kind: str = "filled-corners") -> set[str]:
    return {mark.name for mark in found.marked if mark.kind == kind}


# What lies around a picture


@pytest.mark.parametrize(
    ("fill", "quality"),
    [(0, None), (0, 90), (0, 75), (255, None), (255, 90), (255, 75), ((200, 30, 200), None)],
)
def test_turned_pictures_are_seen_whatever_the_colour_and_compression(
    fill: int | tuple[int, int, int], quality: int | None
) -> None:
    found = frames.look(pixels(lambda seed: turned(seed, fill), quality=quality))
    assert found.turned.mean() >= 0.85
    assert not found.padded.any()
    expected = 2 if isinstance(fill, tuple) else fill // 255
    assert (found.colour[found.turned] == expected).all()


def test_sheared_pictures_are_seen() -> None:
    assert frames.look(pixels(sheared)).turned.mean() >= 0.9


def test_bars_have_their_width() -> None:
    for fill in (0, 255):
        found = frames.look(pixels(lambda seed, fill=fill: padded(seed, fill)))
        assert found.padded.mean() >= 0.95
        widths = [np.random.default_rng([seed, 3]).integers(4, 14) for seed in range(40)]
        # Compression blurs an edge by a pixel.
        off = np.abs(found.bars - np.array([[w, w, 0, 0] for w in widths]))[found.padded]
        assert off.max() <= 1
        assert off[:, 2:].max() == 0
        assert off.mean() <= 0.2


def test_which_corners_are_filled() -> None:
    image = np.asarray(photo(1)).copy()
    rows, columns = np.indices((SIDE, SIDE))
    image[rows + columns < 20] = 0
    image[(SIDE - 1 - rows) + columns < 12] = 0
    found = frames.look(image[None])
    assert found.corners.tolist() == [[True, False, True, False]]
    assert found.turned.all()


@pytest.mark.parametrize("make", [photo, dark_cornered, on_black])
def test_photographs_soft_corners_and_ragged_objects_are_not_framed(make: Make) -> None:
    found = frames.look(pixels(make))
    assert found.turned.mean() <= 0.05
    assert found.padded.mean() <= 0.05


def test_flat_images_are_not_framed() -> None:
    flat = np.stack([np.full((16, 16, 1), value, np.uint8) for value in (0, 90, 255)])
    found = frames.look(flat)
    assert (found.colour == -1).all()
    assert not found.corners.any()


# By class


def test_classes_with_black_corners_are_named_and_no_others(cache: Path, tmp_path: Path) -> None:
    made = {"ant": turned, "bee": turned, "cow": photo, "dog": dark_cornered, "eel": photo}
    found = filled_corners(written(tmp_path / "set", made))
    assert marked(found) == {"ant", "bee"}
    assert not marked(found, "padding")
    shares = dict(zip(found.classes, found.shares["filled-corners"], strict=True))
    assert min(shares["ant"], shares["bee"]) >= 0.9
    assert max(shares[name] for name in ("cow", "dog", "eel")) <= 0.05
    (finding,) = found.findings()
    assert finding.level is Level.INVALID
    assert "ant" in finding.sentence
    assert "bee" in finding.sentence
    assert "cow" not in finding.sentence
    assert "black corners" in finding.sentence
    assert finding.advice


def test_examples_show_the_mark_and_its_absence(cache: Path, tmp_path: Path) -> None:
    source = written(
        tmp_path / "set", {"ant": mixed(0.6, turned), "bee": photo, "cow": photo}, count=60
    )
    found = filled_corners(source)
    (mark,) = found.marked
    assert mark.having
    assert mark.lacking
    assert frames.look(source.images(mark.having)).turned.all()
    assert not frames.look(source.images(mark.lacking)).turned.any()
    assert (source.labels[list(mark.having + mark.lacking)] == 0).all()
    told = json.loads(json.dumps(found.describe()))
    assert told["marked"][0]["having"] == [str(source.names[row]) for row in mark.having]


def test_padding_is_told_from_turning(cache: Path, tmp_path: Path) -> None:
    made = {"ant": padded, "bee": photo, "cow": photo}
    found = filled_corners(written(tmp_path / "set", made, 30))
    assert marked(found, "padding") == {"ant"}
    assert not marked(found)
    (finding,) = found.findings()
    assert finding.level is Level.INVALID
    assert "black bar" in finding.sentence


def test_a_mark_on_some_of_a_class_is_milder(cache: Path, tmp_path: Path) -> None:
    made = {"ant": mixed(0.55, turned), "bee": photo, "cow": photo}
    found = filled_corners(written(tmp_path / "set", made))
    assert marked(found) == {"ant"}
    assert worst(found.findings()) is Level.LOOK


def test_a_few_turned_images_are_no_shortcut(cache: Path, tmp_path: Path) -> None:
    made = {"ant": mixed(0.15, turned), "bee": photo, "cow": photo}
    found = filled_corners(written(tmp_path / "set", made))
    assert not found.marked
    assert worst(found.findings()) is Level.FINE


def test_what_all_classes_share_marks_none(cache: Path, tmp_path: Path) -> None:
    found = filled_corners(written(tmp_path / "set", {"ant": turned, "bee": turned}, 30))
    assert not found.marked


def test_of_two_halves_the_one_with_the_mark_is_named(cache: Path, tmp_path: Path) -> None:
    for number, classes in enumerate(("ab", "abcd", "abcde")):
        made: dict[str, Make] = {
            name: turned if name in "ab"[: len(classes) // 2] else photo for name in classes
        }
        found = filled_corners(written(tmp_path / f"set{number}", made, 24))
        assert marked(found) == set("ab"[: len(classes) // 2])
        assert worst(found.findings()) is Level.INVALID


def test_the_one_class_that_was_not_turned_is_named(cache: Path, tmp_path: Path) -> None:
    made = {"ant": turned, "bee": turned, "cow": turned, "dog": photo}
    found = filled_corners(written(tmp_path / "set", made, 30))
    assert marked(found) == {"dog"}
    (finding,) = found.findings()
    assert finding.level is Level.INVALID
    assert "far less often" in finding.sentence
    assert "dog" in finding.sentence


def test_objects_on_a_plain_ground_are_no_artefact(cache: Path, tmp_path: Path) -> None:
    """Boxes fill the corners with straight edges, and still they are objects."""

    def box(seed: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        inner = photo(seed, 40, 44).rotate(rng.uniform(-20, 20), expand=True, fillcolor=(0, 0, 0))
        made = Image.new("RGB", (SIDE, SIDE))
        made.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
        return made

    made = {"boxes": box, "rags": on_black, "stones": on_black}
    found = filled_corners(written(tmp_path / "set", made, 30))
    assert frames.look(pixels(box)).turned.mean() >= 0.9
    assert frames.look(pixels(on_black)).turned.mean() <= 0.1
    assert found.ground == ("black",)
    assert not found.marked
    assert "plain background" in found.findings()[0].sentence


def test_one_turned_class_is_no_background_of_the_set(cache: Path, tmp_path: Path) -> None:
    """Turned pictures that are too plain to look framed leave only the corners to see."""

    def dull(seed: int) -> Image.Image:
        return turned(seed) if seed % 5 < 3 else on_black(seed)

    made = {"ant": dull, "bee": photo, "cow": photo}
    found = filled_corners(written(tmp_path / "set", made, 40))
    assert not found.ground
    assert marked(found) == {"ant"}


def test_large_sources_are_sampled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(tmp_path / "set", {"ant": turned, "bee": photo, "cow": photo}, 40)
    monkeypatch.setattr(corners, "_QUICK", 60)
    found = filled_corners(source)
    assert found.images == (20, 20, 20)
    assert marked(found) == {"ant"}
    assert (source.labels[list(found.marked[0].having)] == 0).all()


# Cues


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Shortcuts:
    """Six classes of like photographs, four of which were handled otherwise, each in one way."""
    root = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMLAB_CACHE", str(root / "cache"))
        patch.setattr(guessing, "_TREES", 8)
        exif = Image.Exif()
        exif[271] = "Maker"
        extra = {"tagged": {"exif": exif}, "coarse": {"quality": 40}}
        names = ["plain", "simple", "coarse", "tagged", "large", "renamed"]
        for number, name in enumerate(names):
            (root / "set" / name).mkdir(parents=True)
            for index in range(45):
                side = 96 if name == "large" else SIDE
                stem = f"DSC{index:04d}-edit" if name == "renamed" else f"{index:04d}"
                photo(1000 * number + index, side, side).save(
                    root / "set" / name / f"{stem}.jpg", **{"quality": 90} | extra.get(name, {})
                )
        return shortcuts(read_image_set(DataConfig(str(root / "set"), image_size=SIDE)))


@pytest.mark.parametrize(
    ("cue", "given", "seen"),
    [
        ("compression", "coarse", True),
        ("image-size", "large", True),
        ("metadata", "tagged", False),
        ("name-style", "renamed", False),
    ],
)
def test_each_planted_cue_is_called_with_its_class(
    planted: Shortcuts, cue: str, given: str, seen: bool
) -> None:
    (result,) = [one for one in planted.cues if one.name == cue]
    assert result.shortcut
    assert [name for name, _ in result.gives_away] == [given]
    assert result.gives_away[0][1] == pytest.approx(1.0)
    # That class is told from the five others, which are guessed among themselves.
    assert result.accuracy == pytest.approx(2 / 6, abs=0.1)
    assert result.low < result.accuracy < result.high
    assert result.chance == pytest.approx(1 / 6)
    # Files named in a style of their own also begin with a word of their own.
    findings = [one for one in planted.findings() if f" {given}" in one.sentence]
    assert [one.level for one in findings] == [Level.LOOK] * (1 + (cue == "name-style"))
    told = f"{findings[0].sentence} {findings[0].advice}"
    assert ("does not see" in told) is not seen


def test_nothing_else_is_called(planted: Shortcuts) -> None:
    assert not planted.corners.marked
    called = {one.name for one in planted.cues if one.shortcut}
    assert called == {"compression", "image-size", "metadata", "name-style", "name-words"}
    assert worst(planted.findings()) is Level.LOOK
    assert json.loads(json.dumps(planted.describe()))["cues"]


def test_classes_of_another_colour_are_an_association_to_look_at(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "_TREES", 8)

    def tinted(shift: tuple[int, int, int]) -> Make:
        return lambda seed: Image.fromarray(
            np.clip(np.asarray(photo(seed)).astype(int) + shift, 20, 235).astype(np.uint8)
        )

    made = {"red": tinted((50, -20, -20)), "blue": tinted((-20, -20, 50))}
    found = shortcuts(written(tmp_path / "set", made, 40))
    (colour,) = [one for one in found.cues if one.name == "colour"]
    assert colour.accuracy > 0.9
    assert colour.associated
    assert not colour.shortcut
    (finding,) = [one for one in found.findings() if one.level is not Level.FINE]
    assert finding.level is Level.LOOK
    assert "mean colour (" in finding.sentence
    assert "red, AUC" in finding.sentence


def test_embedded_digits_have_no_shortcut(cache: Path) -> None:
    source = read_image_set(DataConfig("digits"))
    found = {cue.name: cue for cue in cues(source)}
    assert not {"image-size", "name-words", "metadata"} & set(found)
    assert not any((cue.values != cue.values[0]).any() for cue in found.values() if cue.outside)
    found_corners = filled_corners(source)
    assert found_corners.ground == ("black",)
    assert not found_corners.marked


def _digits(cache: Path) -> tuple[ImageSet, np.ndarray]:
    source = read_image_set(DataConfig("digits"))
    return source, np.arange(len(source))


def test_a_cue_that_says_nothing_is_not_called(cache: Path) -> None:
    source, rows = _digits(cache)
    noise = np.random.default_rng(0).normal(size=(len(source), 3)).astype(np.float32)
    found = guessing.guessed(Cue("noise", "noise", noise, True, True), source, rows)
    assert found.accuracy == pytest.approx(0.1, abs=0.03)
    assert not found.shortcut
    assert not found.gives_away
    same = guessing.guessed(Cue("same", "same", noise * 0, True, True), source, rows)
    assert same.accuracy is None
    assert not same.shortcut
    assert same.describe()["verdict"] == "none"


def test_a_cue_that_tells_all_is_called(cache: Path) -> None:
    source, rows = _digits(cache)
    cue = Cue("label", "label", source.labels[:, None].astype(np.float32), True, True)
    found = guessing.guessed(cue, source, rows)
    assert found.accuracy == 1
    assert found.big
    assert len(found.gives_away) == 10
    assert found == guessing.guessed(cue, source, rows)


def test_copies_do_not_reach_two_folds(cache: Path, tmp_path: Path) -> None:
    """Every image lies there four times; its brightness would betray the copies' label."""
    root = tmp_path / "set"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
    for seed in range(60):
        file = io.BytesIO()
        photo(seed).save(file, "JPEG")
        for copy in range(4):
            place = root / ("ant", "bee")[seed % 2] / f"{seed:02d}-{copy:02d}.jpg"
            place.write_bytes(file.getvalue())
    source = read_image_set(DataConfig(str(root)))
    rows = guessing.sample(source)
    assert len(rows) == 60
    assert len(set(source.digests[rows].tolist())) == 60
    assert np.bincount(source.labels[rows]).tolist() == [30, 30]


def test_too_few_images_give_no_result(cache: Path, tmp_path: Path) -> None:
    found = shortcuts(written(tmp_path / "set", {"ant": turned, "bee": photo}, 8))
    assert all(cue.accuracy is None and not cue.shortcut for cue in found.cues)
    assert found.findings()


# Parts


def test_intervals_are_those_of_scipy() -> None:
    for right, count in ((0, 7), (3, 10), (250, 300), (300, 300)):
        reference = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right / count, count) == pytest.approx(
            (reference.low, reference.high), abs=1e-7
        )
    assert wilson(0.0, 0) == (0.0, 1.0)
    # Rounding leaves neither 100 % out of its interval nor 0 %.
    for count in np.linspace(1, 400, 1501):
        assert wilson(1.0, float(count))[1] == 1.0
        assert wilson(0.0, float(count))[0] == 0.0


def test_headers_say_what_was_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    qualities = [5, 30, 50, 75, 85, 90, 95, 100]
    for quality in qualities:
        photo(quality, 80, 64).save(root / "ant" / f"{quality:03d}.jpg", quality=quality)
    photo(1, 80, 64).save(root / "bee" / "a.jpg", exif=exif, comment=b"seen", dpi=(72, 72))
    photo(2, 80, 64).save(root / "bee" / "b.jpg", progressive=True, subsampling=0)
    photo(3, 80, 64).convert("L").save(root / "bee" / "c.png")
    photo(4).save(root / "bee" / "d.png")
    photo(5).save(root / "bee" / "e.png")
    source = read_image_set(DataConfig(str(root)))
    (root / "bee" / "d.png").unlink()
    (root / "bee" / "e.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    about = headers.headers(source)
    at = {Path(str(name)).name: row for row, name in enumerate(source.names.tolist())}
    for quality in qualities:
        assert about.quality[at[f"{quality:03d}.jpg"]] == quality
    a, b, c = at["a.jpg"], at["b.jpg"], at["c.png"]
    # Its flag turns it on its side.
    assert (about.width[a], about.height[a]) == (64, 80)
    assert (about.width[b], about.height[b]) == (80, 64)
    written_ones = [
        kind for kind, has in zip(headers.METADATA, about.metadata[a], strict=True) if has
    ]
    assert written_ones == ["EXIF", "comment", "rotation flag", "resolution"]
    assert not about.metadata[at["090.jpg"]].any()
    assert about.progressive.nonzero()[0].tolist() == [b]
    assert (about.subsampling[a], about.subsampling[b]) == (4, 1)
    assert about.formats[about.format[c]] == "PNG"
    assert (about.quality[c], about.channels[c], about.channels[a]) == (0, 1, 3)
    assert about.size[a] == (root / "bee" / "a.jpg").stat().st_size
    assert sorted(np.flatnonzero(~about.read).tolist()) == sorted([at["d.png"], at["e.png"]])

    monkeypatch.setattr(headers, "_FEW_FILES", 1)
    again = headers._headers(root, source.names.tolist(), None)
    assert again.quality.tolist() == about.quality.tolist()
    assert again.read.tolist() == about.read.tolist()


def test_names_of_files_are_taken_apart() -> None:
    classes = ["House-Crow", "Crow", "cat", "7"]
    names = [
        "train/cat/House-Crow_12.jpg",
        "train/cat/house crow (3).JPG",
        "train/cat/my_cats_7.jpg",
        "train/cat/concatenated_7.jpg",
        "train/cat/Crow_9.jpg",
        "train/House-Crow/0a1b2c3d-44aa-11bb.jpg",
        "train/House-Crow/7.jpg",
    ]
    labels = np.array([2, 2, 2, 2, 2, 0, 0])
    found = file_names(names, labels, classes)
    assert found.carried.tolist() == [0, 0, 2, -1, 1, -1, -1]
    assert [found.styles[code] for code in found.style] == [
        "C_9",
        "C (9)",
        "a_Ca_9",
        "a_9",
        "C_9",
        "x",
        "9",
    ]
    assert found.words[found.word[3]] == "concatenated"
    assert len(set(found.extension.tolist())) == 2


def test_classes_that_were_not_tried_are_said(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image_set = read_image_set(DataConfig(str(write({"a": 12, "b": 12, "c": 12}))))
    said = [finding.sentence for finding in shortcuts(image_set).findings()]
    assert not any("of the 3 classes" in sentence for sentence in said)
    monkeypatch.setattr(guessing, "_MOST_CLASSES", 2)
    said = [finding.sentence for finding in shortcuts(image_set).findings()]
    assert any("were tried on 2 of the 3 classes" in sentence for sentence in said)
