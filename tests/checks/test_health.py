"""Balance and health: what looks like a mistake of handling is found, and nothing else is."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from normlab.checks.health.folders import almost_alike
from normlab.checks.health.health import Health, health, quick_health
from normlab.checks.health.size_of_test import size_of_test
from normlab.checks.image_set import read_image_set
from normlab.data import DataConfig
from normlab.pages.findings import Finding, Level, worst

Make = Callable[..., Path]


def found(root: Path, **options: int) -> Health:
    return health(read_image_set(DataConfig(str(root), **options)))


def about(result: Health, check: str) -> list[Finding]:
    return [one for one in result.findings() if one.check == check]


def only(result: Health, check: str) -> Finding:
    (finding,) = about(result, check)
    return finding


def noise(seed: int, height: int = 12, width: int = 12) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_healthy_source_has_nothing_to_look_at(cache: Path, write: Make) -> None:
    root = write({f"{split}/{name}": 20 for split in ("train", "val") for name in ("ant", "bee")})
    result = found(root)
    assert result.balance.counts == dict.fromkeys(("ant", "bee"), (17, 20, 3))
    checks = [one.check for one in result.findings() if one.level is Level.FINE]
    assert checks == [
        "balance",
        "unreadable-files",
        "folders",
        "file-names",
        "blank-images",
        "image-sizes",
        "grey-images",
    ]
    assert only(result, "test-size").level is Level.LOOK
    assert json.loads(json.dumps(result.describe()))["counts"]["ant"]["test"] == 3


def test_imbalance_is_counted_in_training_images(cache: Path, write: Make) -> None:
    folders = {"train/ant": 30, "train/bee": 9, "val/ant": 3, "val/bee": 3}
    result = found(write({**folders, "test/ant": 3, "test/bee": 30}))
    finding = only(result, "balance")
    assert result.balance.imbalance == pytest.approx(30 / 9)
    assert finding.level is Level.LOOK
    assert "9 (bee) to 30 (ant)" in finding.sentence
    assert "77 %" in finding.sentence
    assert finding.advice
    even = write({"a/train/ant": 20, "a/train/bee": 9}, root="even") / "a"
    assert only(found(even), "balance").level is Level.FINE


def test_unreadable_files_are_told_with_their_reasons(cache: Path, write: Make) -> None:
    root = write({"ant": 9, "bee": 9})
    (root / "ant" / "broken.png").write_bytes(b"")
    (root / "bee" / "text.jpg").write_text("no image")
    result = found(root)
    assert set(result.balance.skipped) == {"ant/broken.png", "bee/text.jpg"}
    finding = only(result, "unreadable-files")
    assert finding.level is Level.LOOK
    assert "2 files" in finding.sentence
    assert "is empty (0 bytes) (1)" in finding.sentence


@pytest.mark.parametrize(
    "name", ["New folder", "Copy of ant", "ant - Copy", "ant copy", "bee (1)", "tmp", "Images"]
)
def test_stray_folders_are_named(cache: Path, write: Make, name: str) -> None:
    result = found(write({"ant": 9, "bee": 9, "cow": 9, name: 9}))
    assert list(result.folders.suspects) == [name]
    (finding,) = about(result, "folders")
    assert finding.level is Level.LOOK
    assert name in finding.sentence


def test_folders_named_like_splits_are_named_but_a_train_is_a_train(
    cache: Path, write: Make
) -> None:
    odd = found(write({"train/ant": 9, "train/bee": 9, "train/test": 9}))
    assert list(odd.folders.suspects) == ["test"]
    rail = found(write({f"train/{name}": 9 for name in ("bus", "car", "train")}, root="rail"))
    assert not rail.folders.suspects


def test_a_tiny_class_is_named(cache: Path, write: Make) -> None:
    result = found(write({"ant": 40, "bee": 40, "cow": 40, "dog": 3}))
    assert list(result.folders.suspects) == ["dog"]
    assert "3 images, the median class has 40" in only(result, "folders").sentence


@pytest.mark.parametrize(
    ("one", "two", "alike"),
    [
        ("cat", "cats", True),
        ("Northern-Lapwing", "Northern-Lapwlng", True),
        ("Northern-Lapwing", "Northern-Lapwin", True),
        ("Northern-Lapwing", "Northern-Lawping", True),
        ("Gray-Wagtail", "Grey-Wagtail", True),
        ("cat", "bat", False),
        ("healthy_leaf", "unhealthy_leaf", False),
        ("spotted_owl_male", "spotted_owl_female", False),
        ("wordnet_n01440764", "wordnet_n01440767", False),
        ("House-Sparrow", "Mouse-Sparrow", False),
        ("quality_grade_a", "quality_grade_b", False),
    ],
)
def test_names_that_are_almost_the_same(one: str, two: str, alike: bool) -> None:
    names = ["Indian-Peacock", one, two]
    assert almost_alike(names) == (((one, two),) if alike else ())


def test_classes_that_share_images_invalidate(cache: Path, write: Make) -> None:
    root = write({"ant": 12, "bee": 12, "cow": 12})
    for index in range(8):
        # Saved anew: other bytes and another name, the same pixels.
        with Image.open(root / "ant" / f"{index:03d}.png") as image:
            image.save(root / "bee" / f"again{index}.bmp")
    result = found(root)
    assert result.folders.shared == (("ant", "bee", pytest.approx(8 / 12)),)
    (finding,) = about(result, "folders")
    assert finding.level is Level.INVALID
    assert "ant and bee" in finding.sentence
    assert "67 %" in finding.sentence
    (root / "bee" / "again0.bmp").unlink()
    for index in range(1, 4):
        (root / "bee" / f"again{index}.bmp").unlink()
    assert not found(root).folders.shared


def test_names_that_differ_in_case_or_unicode_form_alone(cache: Path, write: Make) -> None:
    root = write({"ant": 9, "bee": 9})
    noise(1).save(root / "ant" / "Bird.png")
    noise(2).save(root / "ant" / "bird.PNG")
    noise(3).save(root / "bee" / "bird.png")
    for number, form in enumerate(("NFC", "NFD")):
        noise(4 + number).save(root / "bee" / unicodedata.normalize(form, "grün.png"))
    result = found(root)
    groups = {frozenset(group) for group in result.file_names.clashes}
    assert {"ant/Bird.png", "ant/bird.PNG"} in groups
    assert len(groups) == 2
    assert "2 groups" in only(result, "file-names").sentence


def test_names_that_carry_another_class(cache: Path, write: Make) -> None:
    root = write({"House-Crow": 9, "Sarus-Crane": 9, "Hoopoe": 9})
    for index in range(5):
        noise(index).save(root / "Sarus-Crane" / f"house_crow_{index}.png")
    for index in range(2):
        noise(10 + index).save(root / "Hoopoe" / f"Sarus-Crane_{index}.png")
    noise(20).save(root / "Hoopoe" / "Hoopoe_and_House-Crow.png")
    result = found(root)
    assert result.file_names.misnamed == (("Sarus-Crane", "House-Crow", 5),)
    finding = only(result, "file-names")
    assert finding.level is Level.LOOK
    assert "5 in Sarus-Crane are named House-Crow" in finding.sentence


def test_a_class_named_by_a_common_word_says_nothing(cache: Path, write: Make) -> None:
    root = write(dict.fromkeys(("ant", "bee", "cow", "dog", "photo"), 9))
    for name in ("ant", "bee", "cow", "dog"):
        for index in range(4):
            noise(index).save(root / name / f"photo_{name}_{index}.png")
            noise(50 + index).save(root / name / f"photo_{index}.png")
    assert not found(root).file_names.misnamed


def test_the_size_of_a_test_is_the_interval_it_gives() -> None:
    """Against simulated pairs of networks: the share of intervals that hold the true difference."""
    assert size_of_test(1000).half_widths[0.1] == pytest.approx(
        100 * norm.ppf(0.975) * np.sqrt(0.1 / 1000)
    )
    assert size_of_test(1000).unpaired == pytest.approx(100 * 1.96 * np.sqrt(0.18 / 1000), rel=1e-4)
    for share, images in size_of_test(10).needed.items():
        assert size_of_test(images).half_widths[share] <= 1
        assert size_of_test(images - 1).half_widths[share] > 1
    # Networks that disagree on a tenth of the images cannot differ by more than that.
    assert size_of_test(4).half_widths == {0.1: 10, 0.2: 20}
    rng = np.random.default_rng(0)
    draws = rng.multinomial(1000, (0.1, 0.1, 0.8), size=20_000)
    difference = 100 * (draws[:, 0] - draws[:, 1]) / 1000
    inside = np.abs(difference) <= size_of_test(1000).half_widths[0.2]
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_copies_in_test_do_not_count(cache: Path, write: Make) -> None:
    root = write({f"{split}/{name}": 6 for split in ("train", "test") for name in ("ant", "bee")})
    for index in range(5):
        content = (root / "test" / "ant" / "000.png").read_bytes()
        (root / "test" / "ant" / f"copy{index}.png").write_bytes(content)
    result = found(root)
    assert result.balance.counts["ant"][2] == 11
    assert result.test_size.images == 12
    assert "12 different test images" in only(result, "test-size").sentence


def test_enough_test_images_are_fine() -> None:
    (few,) = size_of_test(3000).findings()
    assert few.level is Level.LOOK
    (finding,) = size_of_test(7500).findings()
    assert finding.level is Level.FINE
    assert "±0.7 points if they disagree on 10 %" in finding.sentence
    assert "3,842 to 7,683" in finding.sentence


def test_small_and_long_files_are_counted(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for index in range(10):
            noise(index, 40, 50).save(root / name / f"{index}.png")
    for index in range(3):
        noise(20 + index, 20, 30).save(root / "ant" / f"small{index}.jpg")
    noise(30, 40, 90).save(root / "bee" / "long.png")
    result = found(root, image_size=32)
    assert result.sizes.upscaled == 3
    assert result.sizes.long == 1
    assert result.sizes.formats == {"PNG": 21, "JPEG": 3}
    assert (result.sizes.width[0], result.sizes.width[-1]) == (30, 90)
    assert result.sizes.aspect[-1] == pytest.approx(90 / 40)
    finding = only(result, "image-sizes")
    assert finding.level is Level.LOOK
    assert "30 to 90 pixels wide and 20 to 40 high" in finding.sentence
    assert "3 are smaller" in finding.sentence
    assert "blurred" in finding.advice
    assert only(found(root, image_size=16), "image-sizes").level is Level.LOOK
    (root / "bee" / "long.png").unlink()
    assert only(found(root, image_size=16), "image-sizes").level is Level.FINE


def test_grey_images_are_found_after_compression(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cow"):
        (root / name).mkdir(parents=True)
        for index in range(20):
            coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BICUBIC)
            if (name, index % 2) == ("ant", 0) or (name, index) == ("bee", 0):
                image = image.convert("L").convert("RGB")
            image.save(root / name / f"{index}.jpg", quality=80)
    result = found(root)
    assert result.grey.counts == {"ant": 10, "bee": 1}
    assert result.grey.marked == ("ant",)
    finding = only(result, "grey-images")
    assert finding.level is Level.LOOK
    assert "11 of 60" in finding.sentence
    assert "50 %" in finding.sentence
    for index in range(0, 16, 2):
        (root / "ant" / f"{index}.jpg").unlink()
    mild = only(found(root), "grey-images")
    assert mild.level is Level.FINE
    assert "3 of 52" in mild.sentence


def test_array_sources_have_no_files(cache: Path) -> None:
    result = health(read_image_set(DataConfig("digits")))
    assert result.sizes is None
    assert result.grey is None
    assert result.balance.images == 1797
    assert {one.level for one in result.findings() if one.check != "test-size"} == {Level.FINE}


def test_the_quick_part_opens_no_file(cache: Path, write: Make) -> None:
    root = write({"ant": 9, "bee": 9})
    source = read_image_set(DataConfig(str(root)))
    for file in root.rglob("*.png"):
        file.unlink()
    result = quick_health(source)
    assert result.sizes is None
    assert result.grey is None
    assert worst(one for one in result.findings() if one.check != "test-size") is Level.FINE
    # What was deleted since is left out, and nothing fails.
    assert health(source).sizes is None


def test_a_file_may_be_of_one_channel(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        for index in range(6):
            file = io.BytesIO()
            noise(index).convert("L").save(file, "PNG")
            (root / name / f"{index}.png").write_bytes(file.getvalue())
    result = found(root)
    assert sum(result.grey.counts.values()) == 12
    assert not result.grey.marked


def test_images_that_show_nothing_are_counted_by_class_and_named(cache: Path, write: Make) -> None:
    root = write({f"{split}/{name}": 6 for split in ("train", "test") for name in ("ant", "bee")})
    Image.new("RGB", (12, 12)).save(root / "train/ant/dark.png")
    Image.new("RGB", (12, 12), (255, 254, 255)).save(root / "train/ant/white.png")
    nearly = np.full((12, 12, 3), (90, 120, 200), np.uint8)
    nearly[::3, ::2] += 2
    Image.fromarray(nearly).save(root / "test/bee/sky.png")
    # Something is there, however little and wherever it is.
    for number, at in enumerate(((0, 0), (5, 6), (11, 11))):
        star = np.zeros((12, 12, 3), np.uint8)
        star[at] = 200
        Image.fromarray(star).save(root / f"test/ant/star {number}.png")
    result = found(root)
    finding = only(result, "blank-images")
    assert finding.level is Level.LOOK
    assert finding.sentence == (
        "3 images show nothing or nearly nothing: 1 black, 1 white and 1 of one colour. They are "
        "in ant (2 in training) and bee (1 in test), for example train/ant/dark.png."
    )
    assert result.describe()["blank"]["counts"] == {
        "ant": {"train": 2, "val": 0, "test": 0},
        "bee": {"train": 0, "val": 0, "test": 1},
    }


def test_two_levels_of_grey_are_told_and_not_called_broken(cache: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for levels, root in ((2, "binary"), (60, "shades")):
        for name in ("six", "nine"):
            (tmp_path / root / name).mkdir(parents=True)
            for index in range(12):
                pixels = rng.integers(0, levels, (10, 10)) * (255 // (levels - 1))
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(tmp_path / root / name / f"{index}.png")
    finding = only(found(tmp_path / "binary"), "grey-levels")
    assert finding.level is Level.LOOK
    assert "one of 2 levels (0 and 255 of 0 to 255)" in finding.sentence
    assert finding.advice.startswith("Nothing needs to be done if")
    assert about(found(tmp_path / "shades"), "grey-levels") == []
