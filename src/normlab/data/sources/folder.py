"""Class folders, with or without train, val and test above them.

Images are directly in a class folder or one folder below it. A single folder that wraps everything
is opened. Whatever is read in another way than the plain one is said; what cannot be read gets
advice that was tried before it is given.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from ...pages.words import counted, listed
from ...splits import SPLITS
from ..decode import CLAIMS, claims_image
from .base import Listing

_CALLED = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
_SPLIT = re.compile(
    rf"(?:(?:images?|imgs?|data)[ _-]?)?({'|'.join(_CALLED)})"
    r"(?:[ _-]?(?:images?|imgs?|data|set|split|folder))?",
    re.IGNORECASE,
)
_BESIDE = re.compile(
    r"masks?|labels?|annotations?|thumb(nail)?s?|segmentations?|previews?|gt|ground[ _-]?truth",
    re.IGNORECASE,
)
"""Folders next to images that have something else of them."""
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_LAYOUT = (
    "Give a folder that contains a folder of images for each class, or train, val and test folders "
    "with such class folders."
)
_MOST_TRIED = 20


class _File(NamedTuple):
    name: str
    size: int
    mtime_ns: int

    @property
    def looks_like_image(self) -> bool:
        # As text: a path for each of many files takes longer than to ask the disk for them.
        return os.path.splitext(self.name)[1].lower() in CLAIMS  # noqa: PTH122


@dataclass(frozen=True)
class _Folder:
    """What is in a folder; ``hidden`` counts hidden files and those of file managers."""

    path: Path
    folders: tuple[str, ...]
    files: tuple[_File, ...]
    hidden: int = 0

    @property
    def images(self) -> list[_File]:
        return [file for file in self.files if file.looks_like_image]


_Classes = dict[str, list[_File]]
"""Class to its files, named by their paths below the root."""


def find(root: Path) -> Listing:
    """The images of the class folders below ``root``.

    Raises:
        InputError: the layout is none that can be read.
    """
    return _Reader(root).listing()


@dataclass
class _Reader:
    """Reads one folder.

    Attributes:
        root: of the source; a folder that only wraps another is replaced by that one.
        advise: whether errors try other folders to give; not while one is tried.
        said: what was read in another way than plainly.
        nested: split to the names of folders below its class folders that have images.
        passed: suffix to the number of files that are not images.
        hidden: files passed over because they are hidden or a file manager's.
    """

    root: Path
    advise: bool = True
    said: list[str] = field(default_factory=list)
    nested: dict[str, set[str]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    hidden: int = 0

    def listing(self) -> Listing:
        """The images that were found."""
        given = self.root
        self.root = self._unwrapped(given)
        if self.root != given:
            self.said.append(
                f"The images were found in {self.root.relative_to(given)} inside {given}."
            )
        top = _look(self.root)
        holders = self._split_folders(top)
        splits: dict[str, _Classes] = {}
        for split, name in holders.items():
            inner = self._unwrapped(self.root / name)
            if inner != self.root / name:
                self.said.append(f"{split} is in {inner.relative_to(self.root)}.")
            splits[split] = self._classes(_look(inner), split)
        if holders:
            odd = [f"{name} as {split}" for split, name in holders.items() if name != split]
            if odd:
                self.said.append(f"Read {listed(odd)}.")
            splits = self._same_classes(splits, holders)
        else:
            splits = {"train": self._classes(top, "")}
        classes = tuple(splits["train"])
        if len(classes) < 2:
            raise InputError(
                f"{self.root} contains only one class, {classes[0]}. At least two are needed: add "
                "a folder of images for another class next to it."
            )
        self.said += self._below_classes(classes)
        names: list[str] = []
        labels: list[int] = []
        stamp: list[tuple[int, int]] = []
        found: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        for split, of_split in splits.items():
            start = len(names)
            for label, name in enumerate(classes):
                files = of_split[name]
                names += [file.name for file in files]
                labels += [label] * len(files)
                stamp += [(file.size, file.mtime_ns) for file in files]
            found[split] = np.arange(start, len(names))
        return Listing(
            kind="folder",
            source=str(self.root),
            name=self.root.name or "images",
            classes=classes,
            channels=3,
            names=names,
            labels=np.array(labels, dtype=np.int64),
            found=found,
            stamp=np.array(stamp, dtype=np.int64).reshape(-1, 2),
            root=self.root,
            has_splits=bool(holders),
            notes=[*_next_to_splits(self.root), *self.said, *self._passed_over()],
        )

    def _below_classes(self, classes: Sequence[str]) -> list[str]:
        """Whose the images in folders below the class folders are."""
        if not self.nested:
            return []
        found = sorted(set().union(*self.nested.values()))
        splits = [split for split in self.nested if split]
        start = f"In {listed(splits)}, images" if splits else "Images"
        which = (
            f"a subfolder named {found[0]} belong to the class folder above it"
            if len(found) == 1
            else f"subfolders named {_few(found)} belong to the class folder above them"
        )
        return [f"{start} in {which}. The classes are {_few(classes)}."]

    def _passed_over(self) -> list[str]:
        parts = []
        if self.passed:
            kinds = listed(f"{count:,} {kind}" for kind, count in self.passed.most_common(8))
            parts.append(f"{counted(self.passed.total(), 'file')} that do not claim to be images "
                         f"({kinds})")  # fmt: skip
        if self.hidden:
            parts.append(f"{counted(self.hidden, 'hidden or system file')}")
        return [f"Passed over in the class folders: {listed(parts)}."] if parts else []

    def _unwrapped(self, path: Path) -> Path:
        """The folder that counts, where folders only wrap one another."""
        while True:
            top = _look(path)
            if top.images or any(map(_split_of, top.folders)):
                return path
            direct = (name for name in top.folders if _has_direct_image(path / name))
            if len(list(islice(direct, 2))) == 2:
                return path
            full = [name for name in top.folders if _holds_images(path / name)]
            main = [name for name in full if not _BESIDE.fullmatch(name)] or full
            if len(main) != 1 or _has_direct_image(path / main[0]):
                return path
            others = [name for name in full if name not in main]
            if others:
                self.said.append(f"{listed(others)} in {path} was not used.")
            path = path / main[0]

    def _split_folders(self, top: _Folder) -> dict[str, str]:
        """Split to the name of its folder; empty when these are class folders."""
        holders: dict[str, str] = {}
        for name in top.folders:
            split = _split_of(name)
            if split in holders:
                raise InputError(
                    f"{top.path} has two folders for the {split} split, {holders[split]} and "
                    f"{name}. Keep one of them there."
                )
            if split:
                holders[split] = name
        if not holders:
            return {}
        called = _few(holders.values())
        others = [
            name
            for name in top.folders
            if name not in holders.values() and _holds_images(top.path / name)
        ]
        if others:
            few = _few(others)
            raise InputError(
                f"{top.path} mixes splits ({called}) with folders that are not splits ({few}). "
                f"Move {few} elsewhere or, if {_few(holders.values(), last='or')} is meant as a "
                "class, rename it."
            )
        if top.images:
            raise InputError(
                f"{top.path} has images next to the folders {called}, for example "
                f"{top.images[0].name}. Move them into class folders or elsewhere."
            )
        if "train" not in holders:
            raise InputError(
                f"{top.path} has {called} but no train folder. Rename the folder to train on to "
                "train."
            )
        return {split: holders[split] for split in SPLITS if split in holders}

    def _classes(self, above: _Folder, split: str) -> _Classes:
        """The class folders in this folder, with their files."""
        path = above.path
        if not above.folders:
            raise InputError(self._no_class_folders(above, split))
        if above.images:
            raise InputError(
                f"{path} has images next to the class folders, for example {above.images[0].name}. "
                "Move them into a class folder or elsewhere."
            )
        _names_apart(path, above.folders)
        classes: _Classes = {}
        nested: set[str] = set()
        for name in above.folders:
            folder = _look(path / name, in_class=True)
            classes[name] = list(self._images(folder))
            self._refuse_splits_below(above, folder, split)
            for inner_name in folder.folders:
                inner = _look(path / name / inner_name, in_class=True)
                deeper = _deep(inner)
                if deeper:
                    raise InputError(self._too_deep(above, folder, deeper))
                if _BESIDE.fullmatch(inner_name) and inner.images:
                    self.passed[f"in {inner_name}"] += len(inner.images)
                    continue
                files = list(self._images(inner))
                if files:
                    nested.add(inner_name)
                classes[name] += files
            classes[name].sort(key=lambda file: file.name)
        if nested:
            self.nested[split] = nested
        empty = [name for name, files in classes.items() if not files]
        if len(empty) == len(classes):
            raise InputError(
                f"{path} has no images: there are none in its folders {_few(empty)}. {_LAYOUT}"
            )
        if empty:
            one = len(empty) == 1
            raise InputError(
                f"{path} has {'a class folder' if one else 'class folders'} without images: "
                f"{_few(empty)}. Add images, or remove {'it' if one else 'them'} from every split."
            )
        return classes

    def _images(self, folder: _Folder) -> Iterator[_File]:
        """The files that claim to be images, by their paths below the root; others are counted."""
        self.hidden += folder.hidden
        above = folder.path.relative_to(self.root).as_posix()
        for file in folder.files:
            if file.looks_like_image or claims_image(folder.path / file.name):
                yield _File(f"{above}/{file.name}", file.size, file.mtime_ns)
            else:
                suffix = PurePath(file.name).suffix.lower()
                self.passed[suffix or "without an extension"] += 1

    def _no_class_folders(self, above: _Folder, split: str) -> str:
        path = above.path
        if not above.images:
            return f"{path} has no images in class folders. {_LAYOUT}"
        found = (
            f"{path} has images directly inside, for example {above.images[0].name}, and no class "
            "folders"
        )
        if split in ("val", "test"):
            return (
                f"{found}, so their classes are not known. Move {path.name} out of "
                f"{path.parent}: a {split} split is then drawn from train."
            )
        if not split and self._can_be_read(path.parent):
            return (
                f"{found}. If {path.name} is one class of several, give the folder above, "
                f"{path.parent}."
            )
        return f"{found}. {_LAYOUT}"

    def _too_deep(self, above: _Folder, folder: _Folder, deeper: Path) -> str:
        found = (
            f"{above.path} does not contain class folders whose images are at most one folder "
            f"below them: some of {folder.path.name} are in {deeper}"
        )
        up = f"ove those images up into {folder.path}, or elsewhere."
        # Only splits tell a data set from a class with sessions, which must not become classes.
        tried = {above.path / name: self._read_alone(above.path / name, splits=True)
                 for name in above.folders[:_MOST_TRIED]}  # fmt: skip
        good = {path: classes for path, classes in tried.items() if classes}
        if good:
            first = next(iter(good.values()))
            alike = [str(path) for path, classes in good.items() if classes == first]
            return (
                f"{found}. If the classes are {_few(first)}, give {' or '.join(alike[:3])}. "
                f"Otherwise, m{up}"
            )
        return f"{found}. M{up}"

    def _refuse_splits_below(self, above: _Folder, folder: _Folder, split: str) -> None:
        """Refuse train, val and test inside a class folder: they would be split again."""
        called = [
            name
            for name in folder.folders
            if _split_of(name) not in (None, split) and _has_direct_image(folder.path / name)
        ]
        if not called:
            return
        name = folder.path.name
        if split:
            raise InputError(
                f"The class folder {folder.path} contains {_few(called)}, but is itself in the "
                f"{split} split. Move {_few(called)} out of it or, if {_few(called, last='or')} "
                "is not a split, rename it."
            )
        raise InputError(
            f"The class folder {folder.path} contains splits ({_few(called)}). Splits must be "
            f"above the classes: make {_few(f'{one}/{name}' for one in called)} of them in "
            f"{above.path}, likewise for the other classes. If {_few(called, last='or')} is not "
            "a split, rename it."
        )

    def _can_be_read(self, path: Path) -> bool:
        """Whether a folder could be given instead."""
        return bool(self._read_alone(path))

    def _read_alone(self, path: Path, *, splits: bool = False) -> tuple[str, ...]:
        """The classes of a folder that could be given instead, if need be one with splits."""
        if not self.advise:
            return ()
        try:
            found = _Reader(path, advise=False).listing()
        except (InputError, OSError):
            return ()
        return found.classes if found.has_splits or not splits else ()

    def _same_classes(
        self, splits: Mapping[str, _Classes], holders: Mapping[str, str]
    ) -> dict[str, _Classes]:
        """Every split with the names of the classes of train."""
        trained = splits["train"]
        called = {_plain(name): name for name in trained}
        same: dict[str, _Classes] = {}
        renamed: list[str] = []
        wrong: list[str] = []
        for split, classes in splits.items():
            names = {name: called.get(_plain(name), name) for name in classes}
            renamed += [f"{holders[split]}/{old}" for old, new in names.items() if old != new]
            same[split] = {names[name]: files for name, files in classes.items()}
            lacks = [name for name in trained if name not in same[split]]
            extra = [name for name in same[split] if name not in trained]
            if len(lacks) == len(trained):
                raise InputError(
                    f"{self.root / holders[split]} has none of the classes of {holders['train']}: "
                    f"it has {_few(extra)}. Move {holders[split]} out of {self.root}: a {split} "
                    "split is then drawn from train."
                )
            if lacks:
                wrong.append(f"{holders[split]} lacks {_few(lacks)}")
            if extra:
                wrong.append(f"{holders[split]} has {_few(extra)}, which {holders['train']} lacks")
        if wrong:
            raise InputError(
                f"The classes differ between the splits: {'; '.join(wrong)}. Every split needs "
                "the same class folders."
            )
        if renamed:
            self.said.append(
                f"Upper and lower case aside, {_few(renamed)} "
                f"{'has' if len(renamed) == 1 else 'have'} the name of a class of "
                f"{holders['train']}, and {'counts' if len(renamed) == 1 else 'count'} as that."
            )
        return same


def _split_of(name: str) -> str | None:
    """The split that a folder of this name has.

    >>> _split_of("Training"), _split_of("train_images"), _split_of("trains")
    ('train', 'train', None)
    """
    match = _SPLIT.fullmatch(name)
    return _CALLED[match[1].lower()] if match else None


def _look(path: Path, *, in_class: bool = False) -> _Folder:
    """The contents of a folder by name, without hidden files and those of file managers."""
    folders: list[str] = []
    files: list[_File] = []
    hidden = 0
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in _LITTER:
                hidden += not entry.is_dir()
                continue
            try:
                name.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"The name of {name!a} in {path} is not valid Unicode. Rename it."
                ) from None
            try:
                status = entry.stat()
            except OSError:
                # A link to nowhere. In a class folder it counts as a bad file.
                if not in_class and entry.is_symlink():
                    raise InputError(
                        f"{path / name} is a symbolic link that leads nowhere. Fix or remove it."
                    ) from None
                files.append(_File(name, -1, -1))
                continue
            if not stat.S_ISDIR(status.st_mode):
                files.append(_File(name, status.st_size, status.st_mtime_ns))
                continue
            if entry.is_symlink():
                target = (path / name).resolve()
                if target == path.resolve() or target in path.resolve().parents:
                    raise InputError(
                        f"{path / name} is a symbolic link back to {target}, which contains it. "
                        "Remove it."
                    )
            folders.append(name)
    return _Folder(
        path, tuple(sorted(folders)), tuple(sorted(files, key=lambda file: file.name)), hidden
    )


def _deep(folder: _Folder) -> Path | None:
    """A folder below this one, at any depth, that contains images."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder.path / name for name in reversed(folder.folders)]
    while waiting:
        path = waiting.pop()
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        inner = _look(path, in_class=True)
        if inner.images:
            return path
        waiting += [path / name for name in reversed(inner.folders)]
    return None


def _has_direct_image(path: Path) -> bool:
    with os.scandir(path) as entries:
        return any(
            PurePath(entry.name).suffix.lower() in CLAIMS and not entry.name.startswith(".")
            for entry in entries
        )


def _holds_images(path: Path) -> bool:
    """Whether a folder has images, at any depth."""
    folder = _look(path, in_class=True)
    return bool(folder.images) or _deep(folder) is not None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _names_apart(path: Path, names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(_plain(name), name)
        if twin != name:
            raise InputError(
                f"The class folders {twin} and {name} in {path} differ only in upper and lower "
                "case or in their Unicode form. Merge them, or rename one."
            )


def _next_to_splits(root: Path) -> list[str]:
    """A note if the root is itself one split of a larger data set."""
    if not _split_of(root.name):
        return []
    try:
        with os.scandir(root.parent) as entries:
            others = sorted(
                entry.name
                for entry in entries
                if entry.name != root.name and _split_of(entry.name) and entry.is_dir()
            )
    except OSError:
        return []
    if not others:
        return []
    return [
        f"{root.name} is next to {_few(others)} in {root.parent}, but only {root.name} was used. "
        f"To use these splits, give {root.parent}."
    ]


def _few(names: Iterable[object], most: int = 5, last: str = "and") -> str:
    """Names in a sentence; many are cut short."""
    every = [str(name) for name in names]
    rest = len(every) - most
    return listed([*every[:most], *([f"{rest} more"] if rest > 0 else [])], last)
