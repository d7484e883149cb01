"""Class folders: how they are read, and what is said about those that cannot be."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.data import DataConfig, DataSet, load
from normlab.data.decode import EXTENSIONS
from normlab.errors import InputError

Make = Callable[..., Path]

THREE = {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in ("a", "b")}


def read(root: Path, **options: object) -> DataSet:
    return load(DataConfig(str(root), **options))  # type: ignore[arg-type]


def refusal(root: Path | str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(Path(root), **options)
    message = str(caught.value)
    assert message.rstrip()[-1] in ".)" or "\n" in message
    return message


def counts(data: DataSet) -> dict[str, int]:
    return {name: len(split) for name, split in data.splits.items()}


# ------------------------------------------------------------------ good folders


def test_three_splits_as_found(write: Make) -> None:
    root = write(THREE)
    data = read(root)
    assert (data.kind, data.name, data.source) == ("folder", "set", str(root))
    assert (data.classes, data.channels, data.image_size) == (("a", "b"), 3, 12)
    assert list(data.splits) == ["train", "val", "test"]
    assert counts(data) == {"train": 8, "val": 8, "test": 8}
    assert data.notes == ()
    train = data.splits["train"]
    assert train.names.tolist() == [f"train/{c}/00{i}.png" for c in "ab" for i in range(4)]
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert train.labels.dtype == np.int64
    assert train.ids.dtype == np.uint64
    assert len(set(train.ids.tolist())) == 8
    for row, name in enumerate(train.names):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(train.images([row])[0], np.asarray(image))
    np.testing.assert_array_equal(train.images([5, 1]), train.images()[[5, 1]])
    assert train.images([]).shape == (0, 12, 12, 3)


@pytest.mark.parametrize("called", ["valid", "validation", "Val", "VALIDATION"])
def test_other_names_of_the_splits(write: Make, called: str) -> None:
    root = write({key.replace("val/", f"{called}/"): n for key, n in THREE.items()})
    data = read(root.rename(root.parent / "other"))
    assert counts(data) == {"train": 8, "val": 8, "test": 8}
    assert data.splits["val"].names[0] == f"{called}/a/000.png"


def test_class_folders_alone_are_split(write: Make) -> None:
    data = read(write({"a": 20, "b": 40}))
    assert counts(data) == {"train": 42, "val": 9, "test": 9}
    assert {name: np.bincount(s.labels).tolist() for name, s in data.splits.items()} == {
        "train": [14, 28],
        "val": [3, 6],
        "test": [3, 6],
    }
    (note,) = data.notes
    assert "no splits" in note
    assert "15 % of the source, stratified, seed 0" in note


def test_missing_val_and_missing_test_come_from_train(write: Make) -> None:
    without_val = read(write({"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5}, "v"))
    assert counts(without_val) == {"train": 34, "val": 6, "test": 10}
    assert "no val split, so it was drawn: 15 % of train" in without_val.notes[0]
    without_test = read(write({"train/a": 20, "train/b": 20, "val/a": 5, "val/b": 5}, "t"))
    assert counts(without_test) == {"train": 34, "val": 10, "test": 6}
    assert "no test split, so it was drawn: 15 % of train" in without_test.notes[0]
    train_alone = read(write({"train/a": 20, "train/b": 20}, "o"))
    assert counts(train_alone) == {"train": 28, "val": 6, "test": 6}
    assert len(train_alone.notes) == 2


def test_hidden_things_and_litter_are_not_there(write: Make) -> None:
    root = write(THREE)
    plain = read(root).fingerprint
    (root / ".git").mkdir()
    (root / "__MACOSX" / "train").mkdir(parents=True)
    (root / "README.md").write_text("about")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / "a" / ".hidden.png").write_bytes(b"x")
    (root / "train" / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "train" / "a" / "desktop.ini").write_bytes(b"x")
    (root / "train" / "a" / ".ipynb_checkpoints").mkdir()
    shutil.copy(root / "train/a/000.png", root / "train/a/.ipynb_checkpoints/000.png")
    (root / "train" / "a" / "nothing inside").mkdir()
    assert read(root).fingerprint == plain


def test_symbolic_links_are_followed(write: Make, tmp_path: Path) -> None:
    root = write(THREE)
    linked = tmp_path / "linked"
    (linked / "train").mkdir(parents=True)
    (linked / "test").symlink_to(root / "test")
    (linked / "val").symlink_to(root / "val", target_is_directory=True)
    (linked / "train" / "a").symlink_to(root / "train" / "a")
    (linked / "train" / "b").mkdir()
    for image in (root / "train" / "b").iterdir():
        (linked / "train" / "b" / image.name).symlink_to(image)
    assert read(linked).fingerprint == read(root).fingerprint


def test_nothing_depends_on_the_order_of_the_file_system(
    write: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = write({"a": 30, "b": 30})
    first = read(root, limit_per_class=7)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: object) -> None:
            with scandir(path) as entries:  # type: ignore[call-overload]
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> object:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert read(root, limit_per_class=7).fingerprint == first.fingerprint
    monkeypatch.undo()
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "set")
    assert read(moved, limit_per_class=7).fingerprint == first.fingerprint


def test_grey_and_colour_files_mix(write: Make) -> None:
    root = write({"a": 5, "b": 5})
    Image.new("L", (12, 12), 90).save(root / "a" / "grey.png")
    data = read(root)
    everything = np.concatenate([split.names for split in data.splits.values()])
    assert data.channels == 3
    assert "a/grey.png" in everything


def test_odd_names(write: Make) -> None:
    root = write({"Grünfink é": 5, "a b": 5}, root="My set, 2")
    (root / "a b" / "000.png").rename(root / "a b" / "new\nline %s {x}.png")
    data = read(root)
    assert data.classes == ("Grünfink é", "a b")
    assert data.name == "My set, 2"
    assert "a b/new\nline %s {x}.png" in np.concatenate([s.names for s in data.splits.values()])


def test_the_source_may_be_given_in_any_form(
    write: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = write(THREE)
    plain = read(root)
    monkeypatch.chdir(root / "train")
    assert load(DataConfig("..")).source == plain.source
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(DataConfig("~/set/")).source == plain.source


def test_the_word_digits_wins_over_a_folder(
    write: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(THREE, root="digits")
    monkeypatch.chdir(tmp_path)
    assert load(DataConfig("digits")).kind == "digits"
    assert load(DataConfig("./digits")).kind == "folder"


def test_a_split_alone_is_noted(write: Make) -> None:
    root = write(THREE)
    data = read(root / "train")
    assert data.classes == ("a", "b")
    assert any(f"To use these splits, give {root}" in note for note in data.notes)


# ------------------------------------------------------------------ the size


@pytest.mark.parametrize(("side", "own"), [(4, 8), (8, 8), (50, 50), (64, 64), (90, 64)])
def test_own_size_up_to_64(write: Make, side: int, own: int) -> None:
    root = write({"a": 3, "b": 3}, side=side)
    assert read(root).image_size == own
    assert read(root, image_size=33).image_size == 33


def test_own_size_of_a_mix_is_the_median_of_shorter_sides(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    for index, (width, height) in enumerate([(20, 90), (30, 31), (41, 40), (50, 500), (60, 60)]):
        Image.new("RGB", (width, height)).save(root / "a" / f"x{index}.png")
    for index in range(6):
        Image.new("RGB", (40, 99)).save(root / "b" / f"x{index}.png")
    assert read(root).image_size == 40


# ------------------------------------------------------------------ bad folders


def test_no_such_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert "is a file" in refusal(tmp_path / "a.png")
    assert "cannot be read" in refusal(tmp_path / "a.png" / "below")
    assert "cannot be read" in refusal(str(tmp_path) + "\0")


def test_a_loop_as_root(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refusal(tmp_path / "loop")


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images" in refusal(tmp_path / "empty")
    (tmp_path / "empty" / "a").mkdir()
    (tmp_path / "empty" / "b").mkdir()
    assert "no images" in refusal(tmp_path / "empty")


def test_one_class(write: Make) -> None:
    assert "only one class, a" in refusal(write({"a": 5}, "one"))
    assert "only one class, a" in refusal(write({"train/a": 5, "test/a": 5}, "two"))


def test_an_empty_class_folder(write: Make) -> None:
    message = refusal(write({"a": 5, "b": 5, "c": 0}, "plain"))
    assert "a class folder without images: c" in message
    message = refusal(write(THREE | {"val/b": 0}, "split"))
    assert "val has a class folder without images: b" in message


def test_classes_that_differ(write: Make) -> None:
    message = refusal(write(THREE | {"val/c": 2, "train/d": 2}))
    assert "val lacks d; val has c, which train lacks; test lacks d" in message


def test_names_that_differ_in_case_or_form_in_one_split_are_refused(write: Make) -> None:
    message = refusal(write({"e\u0301": 3, "\u00e9": 3}, "two"))
    assert "differ only in upper and lower case or in their Unicode form" in message


def test_classes_that_differ_in_case_or_form_between_splits_are_one(write: Make) -> None:
    root = write({"train/Robin": 8, "train/b\u00e9": 8, "test/robin": 2, "test/be\u0301": 2})
    data = read(root)
    assert data.classes == ("Robin", "b\u00e9")
    assert np.bincount(data.splits["test"].labels).tolist() == [2, 2]
    assert "test/robin/000.png" in data.splits["test"].names
    (said,) = [note for note in data.notes if "Upper and lower case aside" in note]
    assert "test/robin" in said


# ------------------------------------------------------------------ layouts that people have


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training", "validation", "testing"),
        ("Train", "DEV", "Test"),
        ("train_images", "val_images", "test_images"),
        ("images_train", "images-valid", "images test"),
        ("TrainingSet", "valset", "testset"),
    ],
)
def test_names_of_splits_that_people_use(write: Make, train: str, val: str, test: str) -> None:
    called = {"train": train, "val": val, "test": test}
    root = write({f"{called[key.split('/')[0]]}/{key[-1]}": n for key, n in THREE.items()})
    data = read(root)
    assert counts(data) == {"train": 8, "val": 8, "test": 8}
    assert data.splits["train"].names[0] == f"{train}/a/000.png"
    (said,) = data.notes
    assert f"{train} as train" in said
    assert f"{test} as test" in said


@pytest.mark.parametrize("above", ["images", "dataset/dataset", "a/b/c"])
def test_folders_that_only_wrap_others_are_opened(write: Make, above: str) -> None:
    plain = read(write(THREE, "plain"))
    root = write({f"{above}/{key}": n for key, n in THREE.items()}, "wrapped")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "000.txt").write_text("1")
    (root / "readme.md").write_text("about")
    data = read(root)
    assert data.source == str(root / above)
    assert data.fingerprint == plain.fingerprint
    assert data.notes == (f"The images were found in {above} inside {root}.",)
    assert load(data.config).fingerprint == plain.fingerprint


def test_class_folders_may_be_wrapped_too(write: Make) -> None:
    data = read(write({"photos/a": 5, "photos/b": 5, "masks/a": 5, "masks/b": 5}))
    assert data.classes == ("a", "b")
    assert len(np.concatenate([part.names for part in data.splits.values()])) == 10
    assert any("masks in" in note and "was not used" in note for note in data.notes)


def test_a_split_may_wrap_its_classes(write: Make) -> None:
    root = write({f"{key.replace('/', '/images/')}": n for key, n in THREE.items()})
    data = read(root)
    assert counts(data) == {"train": 8, "val": 8, "test": 8}
    assert data.splits["val"].names[0] == "val/images/a/000.png"
    assert "train is in train/images." in data.notes


def test_one_level_under_a_class(write: Make) -> None:
    root = write({"a/images": 10, "a/masks": 10, "b/images": 10, "b/masks": 10})
    data = read(root)
    names = np.concatenate([part.names for part in data.splits.values()]).tolist()
    assert data.classes == ("a", "b")
    assert sorted(names)[0] == "a/images/000.png"
    assert len(names) == 20
    assert (
        "Images in a subfolder named images belong to the class folder above it. The classes are a "
        "and b." in data.notes
    )
    assert any("20 files" in note and "20 in masks" in note for note in data.notes)
    sessions = read(write({"a/one": 6, "a/two": 6, "b": 4, "b/three": 8}, "sessions"))
    assert sum(counts(sessions).values()) == 24
    assert (
        "Images in subfolders named one, three and two belong to the class folder above them. The "
        "classes are a and b." in sessions.notes
    )
    assert {name for part in sessions.splits.values() for name in part.names.tolist()} >= {
        "a/one/000.png", "a/two/000.png", "b/000.png", "b/three/000.png",
    }  # fmt: skip
    # Four sessions of each class, kept whole.
    more = write({f"{name}/{session}": 5 for name in "ab" for session in range(4)}, "more")
    whole = read(more, group_by=r"^\w/\d/")
    seen = {tuple(name.split("/")[:2]): split for split, part in whole.splits.items()
            for name in part.names.tolist()}  # fmt: skip
    assert len(seen) == 8
    for split, part in whole.splits.items():
        assert all(seen[tuple(name.split("/")[:2])] == split for name in part.names.tolist())


def test_folds_are_named_as_the_classes_that_they_become(write: Make) -> None:
    data = read(write({"fold1/cat": 5, "fold1/dog": 5, "fold2/cat": 5, "fold2/dog": 5}))
    (said,) = [note for note in data.notes if "subfolders" in note]
    assert said.endswith("The classes are fold1 and fold2.")


def test_folders_below_the_classes_of_all_splits_are_one_note(write: Make) -> None:
    data = read(write({f"{key}/images": n for key, n in THREE.items()}))
    (said,) = data.notes
    assert said == (
        "In train, val and test, images in a subfolder named images belong to the class folder "
        "above it. The classes are a and b."
    )


# ------------------------------------------------------------------ advice that works


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test"), ("Training",)])
def test_splits_inside_class_folders_are_not_drawn_again(
    write: Make, tmp_path: Path, splits: tuple[str, ...]
) -> None:
    root = write({f"{name}/{split}": 9 for name in ("cat", "dog") for split in splits})
    message = refusal(root)
    assert f"{root / 'cat'} contains splits" in message
    assert "Splits must be above the classes" in message
    for split in splits:
        assert f"{split}/cat" in message
        (root / split).mkdir()
        for name in ("cat", "dog"):
            (root / name / split).rename(root / split / name)
    for name in ("cat", "dog"):
        (root / name).rmdir()
    assert counts(read(root))["test"] == (18 if "test" in splits else 2)


def test_another_split_inside_a_class_of_a_split_is_refused(write: Make) -> None:
    root = write({"train/a": 9, "train/b": 9, "train/b/test": 3})
    message = refusal(root)
    assert "is itself in the train split" in message
    (root / "train/b/test").rename(root / "train/b/more")
    assert sum(counts(read(root)).values()) == 21


@pytest.mark.parametrize("dog", ["dog", "dog/a/s0"])
def test_sessions_below_a_class_are_not_advised_as_classes(write: Make, dog: str) -> None:
    root = write({"cat/a/s0": 5, "cat/a/s1": 5, "cat/b/s0": 5, dog: 5})
    message = refusal(root)
    assert "ive " not in message
    assert f"Move those images up into {root / 'cat'}, or elsewhere." in message


def test_the_classes_of_an_advised_folder_are_named(write: Make) -> None:
    root = write({f"{one}/train/{name}": 9 for one in ("set1", "set2") for name in "ab"})
    message = refusal(root)
    said = f"If the classes are a and b, give {root / 'set1'} or {root / 'set2'}. Otherwise, move"
    assert said in message
    assert read(root / "set1").classes == ("a", "b")


def advised(message: str) -> Path:
    """The folder that a message says to give."""
    found = re.search(r"[Gg]ive (?:the folder above, )?(/[^,]*?)(?:,| or |\.$|\. )", message)
    assert found is not None, message
    return Path(found[1])


@pytest.mark.parametrize(
    "folders",
    [
        {"set one/train/a": 9, "set one/train/b": 9, "extra": 3},
        {"x/deep/train/a": 9, "x/deep/train/b": 9, "y": 3},
    ],
)
def test_a_folder_that_is_advised_can_be_read(write: Make, folders: dict[str, int]) -> None:
    root = write(folders)
    assert len(read(advised(refusal(root))).classes) == 2


def test_advice_to_move_images_up_works(write: Make) -> None:
    root = write({"x/y/z": 5, "q/y/z": 5})
    message = refusal(root)
    assert "Give" not in message
    assert "Move those images up into" in message
    for name in ("x", "q"):
        for path in sorted((root / name / "y/z").iterdir()):
            path.rename(root / name / path.name)
    assert read(root).classes == ("q", "x")


def test_a_class_folder_given_alone_names_the_folder_above(write: Make) -> None:
    root = write({"a": 5, "b": 5})
    assert read(advised(refusal(root / "a"))).classes == ("a", "b")
    # Where the folder above would be refused as well, it is not advised.
    alone = write({"only": 5}, "alone")
    assert "folder above" not in refusal(alone / "only")


@pytest.mark.parametrize("flat", ["test", "test/images"])
def test_a_test_split_without_classes_can_be_moved_away(
    write: Make, tmp_path: Path, flat: str
) -> None:
    root = write({"train/a": 20, "train/b": 20, flat: 4})
    message = refusal(root)
    assert f"Move test out of {root}" in message
    assert "a test split is then drawn from train" in message
    (root / "test").rename(tmp_path / "elsewhere")
    assert counts(read(root)) == {"train": 28, "val": 6, "test": 6}


def test_mixed_folders_can_be_moved_or_renamed(write: Make, tmp_path: Path) -> None:
    root = write({"train/a": 9, "train/b": 9, "robin": 9})
    assert "Move robin elsewhere or, if train is meant as a class, rename it" in refusal(root)
    (root / "test").mkdir()
    (root / "wren").mkdir()
    shutil.copy(root / "robin/000.png", root / "wren")
    assert (
        "Move robin and wren elsewhere or, if test or train is meant as a class, rename it"
        in refusal(root)
    )
    shutil.rmtree(root / "test")
    shutil.rmtree(root / "wren")
    (root / "robin").rename(tmp_path / "elsewhere")
    assert read(root).classes == ("a", "b")
    (tmp_path / "elsewhere").rename(root / "robin")
    (root / "train").rename(root / "locomotive")
    assert read(root).classes == ("locomotive", "robin")


def test_a_missing_train_folder_can_be_made_by_a_new_name(write: Make) -> None:
    root = write({"val/a": 9, "val/b": 9, "test/a": 3, "test/b": 3})
    assert "Rename the folder to train on to train." in refusal(root)
    (root / "val").rename(root / "train")
    assert counts(read(root))["test"] == 6


def test_folders_without_images_can_be_removed(write: Make) -> None:
    root = write({"a": 9, "b": 9, "c": 0})
    (root / "c" / "notes.txt").write_text("none yet")
    assert "a class folder without images: c" in refusal(root)
    shutil.rmtree(root / "c")
    assert read(root).classes == ("a", "b")


@pytest.mark.parametrize("twice", [("train", "Training"), ("val", "dev"), ("test", "test_images")])
def test_two_folders_for_one_split_are_both_named(write: Make, twice: tuple[str, str]) -> None:
    root = write(THREE | {f"{twice[1]}/{name}": 2 for name in "ab"})
    if len([path for path in root.iterdir() if path.is_dir()]) < 4:
        pytest.skip("this file system ignores case")
    message = refusal(root)
    assert twice[0] in message
    assert twice[1] in message
    shutil.rmtree(root / twice[1])
    assert counts(read(root)) == {"train": 8, "val": 8, "test": 8}


# ------------------------------------------------------------------ files that are no images


def test_files_that_do_not_claim_to_be_images_are_counted(write: Make) -> None:
    root = write({"a": 10, "b": 10})
    plain = read(root)
    for name in ("notes.txt", "README", "table.csv", "labels.CSV", "boxes.xml", "about.json"):
        (root / "a" / name).write_text("robin, 3\n")
    (root / "b" / "array.npy").write_bytes(b"\x93NUMPY")
    (root / "b" / ".DS_Store").write_bytes(b"x")
    (root / "b" / "Thumbs.db").write_bytes(b"x")
    data = read(root)
    assert data.fingerprint == plain.fingerprint
    (said,) = [note for note in data.notes if note not in plain.notes]
    assert "7 files that do not claim to be images (2 .csv," in said
    assert "1 without an extension" in said
    assert "2 hidden or system files" in said


def test_what_claims_to_be_an_image_still_stops(write: Make) -> None:
    root = write({"a": 10, "b": 10})
    png = (root / "a" / "000.png").read_bytes()
    for name, content, reason in (
        ("broken.jpg", b"text", "is not an image"),
        ("scan", png, "is wrongly named: the content is PNG, but the name has no extension"),
        ("photo.txt", png, "is wrongly named: the content is PNG, but the name ends in .txt"),
        ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC file, which is not read"),
        ("phone.bin", b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIC file, which is not read"),
        ("raw.cr2", b"whatever", "is a CR2 file, which is not read: convert it to JPEG or PNG"),
    ):
        (root / "a" / name).write_bytes(content)
        message = refusal(root)
        assert f"a/{name} {reason}" in message
        (root / "a" / name).unlink()


@pytest.mark.parametrize(("suffix", "format"), [(".jp2", "JPEG2000"), (".avif", "AVIF")])
def test_newer_formats_are_read(write: Make, suffix: str, format: str) -> None:
    if suffix not in EXTENSIONS:
        pytest.skip(f"this Pillow cannot read {format}")
    root = write({"a": 5, "b": 5})
    with Image.open(root / "a/000.png") as image:
        image.save(root / f"a/new{suffix}", format)
    data = read(root)
    assert f"a/new{suffix}" in np.concatenate([part.names for part in data.splits.values()])


def test_images_directly_in_the_root(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    message = refusal(root / "a")
    assert "images directly inside" in message
    assert f"give the folder above, {root}." in message
    shutil.copy(root / "a" / "000.png", root / "stray.png")
    assert "images next to the class folders, for example stray.png" in refusal(root)


def test_images_beside_or_directly_in_splits(write: Make) -> None:
    root = write(THREE)
    shutil.copy(root / "train/a/000.png", root / "stray.png")
    assert "images next to the folders test, train and val" in refusal(root)
    (root / "stray.png").rename(root / "train" / "stray.png")
    assert "images next to the class folders" in refusal(root)
    flat = write({"train": 3, "test": 3}, "flat")
    assert "train has images directly inside" in refusal(flat)


def test_a_split_beside_other_folders(write: Make) -> None:
    message = refusal(write({"train/a": 2, "train/b": 2, "robin": 2}))
    assert "mixes splits (train) with folders that are not splits (robin)" in message


def test_two_folders_for_one_split(write: Make) -> None:
    assert "two folders for the val split" in refusal(write(THREE | {"valid/a": 1, "valid/b": 1}))


def test_no_train(write: Make) -> None:
    assert "no train folder" in refusal(write({"val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2}))


def test_folders_too_deep_inside_a_class(write: Make) -> None:
    root = write({"a": 3, "b": 3, "b/more/deep": 2})
    message = refusal(root)
    assert f"some of b are in {root / 'b/more/deep'}" in message
    assert f"Move those images up into {root / 'b'}, or elsewhere." in message


def test_loops_of_folders(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    (root / "c").symlink_to(root)
    assert "is a symbolic link back to" in refusal(root)
    (root / "c").unlink()
    (root / "a" / "self").symlink_to(root / "a")
    assert "is a symbolic link back to" in refusal(root)
    (root / "a" / "self").unlink()
    (root / "c").symlink_to(root / "c")
    assert "leads nowhere" in refusal(root)


def test_two_folders_that_link_to_each_other_end(write: Make) -> None:
    root = write({"a": 3, "b": 3, "a/x": 0, "b/y": 0})
    (root / "a" / "x" / "to").symlink_to(root / "b" / "y")
    (root / "b" / "y" / "to").symlink_to(root / "a" / "x")
    assert counts(read(root)) == {"train": 2, "val": 2, "test": 2}


def test_a_link_to_nowhere_as_class(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    (root / "c").symlink_to(root / "gone")
    assert f"{root / 'c'} is a symbolic link that leads nowhere" in refusal(root)


def test_too_few_to_split(write: Make) -> None:
    message = refusal(write({"a": 9, "b": 2}, "one"))
    assert "Class b has 2 images to split into train, val and test: at least 3" in message
    message = refusal(write({"train/a": 9, "train/b": 1, "test/a": 1, "test/b": 1}, "two"))
    assert "Class b has 1 image to split into train and val: at least 2" in message
    message = refusal(write({"train/a": 9, "train/b": 1, "val/a": 1, "val/b": 1}, "three"))
    assert "Class b has 1 image to split into train and test: at least 2" in message


@pytest.mark.skipif(os.sep != "/", reason="names are bytes on POSIX alone")
def test_names_that_are_no_text(write: Make) -> None:
    root = write({"a": 3, "b": 3})
    bad = os.fsencode(root / "a") + b"/\xff\xfe.png"
    try:
        Path(os.fsdecode(bad)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert "is not valid Unicode" in refusal(root)


def test_a_folder_that_may_not_be_read(write: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write({"a": 3, "b": 3})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path) == root / "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"{root / 'b'} cannot be read: Permission denied" in refusal(root)


# ------------------------------------------------------------------ bad files


def test_bad_files_are_listed_and_can_be_left_out(write: Make) -> None:
    root = write(THREE)
    (root / "train/a/001.png").write_bytes(b"")
    (root / "test/b/zz.png").symlink_to(root / "gone.png")
    (root / "val/b/notes.jpg").write_text("x")
    message = refusal(root)
    assert "3 of 26 files" in message
    assert "train/a/001.png is empty (0 bytes)" in message
    assert "test/b/zz.png does not exist, or is a symbolic link that leads nowhere" in message
    assert "val/b/notes.jpg is not an image" in message
    assert "add --skip-bad to leave them out" in message

    data = read(root, skip_bad=True)
    assert counts(data) == {"train": 7, "val": 8, "test": 8}
    assert "train/a/001.png" not in data.splits["train"].names
    assert set(data.skipped) == {"train/a/001.png", "test/b/zz.png", "val/b/notes.jpg"}
    assert any("3 files" in note and "zz.png" in note for note in data.notes)
    assert data.describe()["skipped"] == data.skipped
    # The others are who they were, with the pixels they had.
    for split in data.splits.values():
        for row, name in enumerate(split.names):
            with Image.open(root / name) as image:
                np.testing.assert_array_equal(split.images([row])[0], np.asarray(image))


def test_ten_bad_files_are_named(write: Make) -> None:
    root = write({"a": 20, "b": 20})
    for path in (root / "a").iterdir():
        path.write_bytes(b"nonsense")
    message = refusal(root)
    assert "20 of 40 files" in message
    assert len(re.findall(r"is not an image", message)) == 10
    assert "and 10 more" in message


def test_leaving_out_must_not_empty_a_class(write: Make) -> None:
    root = write(THREE)
    for path in (root / "val/b").iterdir():
        path.write_bytes(b"")
    message = refusal(root, skip_bad=True)
    assert "Class b has no images in val" in message
    assert "None of its files there can be used" in message


def test_a_bad_file_does_not_move_the_others(write: Make) -> None:
    root = write({"a": 20, "b": 20})
    before = read(root)
    victim = root / before.splits["train"].names[3]
    victim.write_bytes(b"")
    after = read(root, skip_bad=True)
    assert set(after.splits["val"].names) == set(before.splits["val"].names)
    assert set(before.splits["train"].names) - set(after.splits["train"].names) == {
        str(victim.relative_to(root))
    }


def test_where_nothing_is_drawn_only_the_selected_files_are_tried(write: Make) -> None:
    root = write({"train/a": 30, "train/b": 30, "val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2})
    chosen = read(root, limit_per_class=2)
    names = chosen.splits["train"].names.tolist()
    files = sorted((root / "train/a").iterdir())
    other = next(path for path in files if f"train/a/{path.name}" not in names)
    other.write_bytes(b"")
    assert read(root, limit_per_class=2).fingerprint == chosen.fingerprint
    assert "1 of 68 files" in refusal(root)


def test_files_that_cannot_be_used_take_no_place_in_the_limit(write: Make) -> None:
    root = write({"train/a": 9, "train/b": 9, "val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2})
    chosen = read(root, limit_per_class=3)
    for name in chosen.splits["train"].names[:2]:
        (root / name).write_bytes(b"")
    data = read(root, limit_per_class=3, skip_bad=True)
    assert np.bincount(data.splits["train"].labels).tolist() == [3, 3]
    assert len(data.skipped) == 2


def test_files_that_cannot_be_used_take_no_place_in_the_splits(write: Make) -> None:
    root = write({"a": 40, "b": 40})
    before = read(root)
    for split in ("val", "test"):
        for name in before.splits[split].names[:4]:
            (root / name).write_bytes(b"")
    data = read(root, skip_bad=True)
    # 15 % of the 32 images of class a that can be used, and of the 40 of class b.
    assert {name: np.bincount(part.labels).tolist() for name, part in data.splits.items()} == {
        "train": [22, 28], "val": [5, 6], "test": [5, 6],
    }  # fmt: skip
