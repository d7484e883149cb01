"""Class folders, with or without train, val and test above them.

Only files directly in a class folder count. Most of this file explains what is wrong with a folder
that has another layout, and which folder to give instead.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from ...errors import InputError
from ...splits import SPLITS
from ..decode import EXTENSIONS
from .base import Listing

_CALLED = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_LAYOUT = (
    "Give a folder that contains class folders with images directly inside, or train, val and test "
    "folders with such class folders."
)


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    mtime_ns: int

    @property
    def looks_like_image(self) -> bool:
        return PurePath(self.name).suffix.lower() in EXTENSIONS


@dataclass(frozen=True)
class _Folder:
    path: Path
    folders: tuple[str, ...]
    files: tuple[_File, ...]

    @property
    def images(self) -> list[_File]:
        return [file for file in self.files if file.looks_like_image]


def find(root: Path) -> Listing:
    """The images of the class folders below ``root``."""
    top = _look(root)
    holders = _split_folders(top)
    if holders:
        splits = {split: _classes(_look(root / name)) for split, name in holders.items()}
        _same_classes(splits, holders)
    else:
        splits = {"train": _classes(top, is_root=True)}
    classes = tuple(splits["train"])
    if len(classes) < 2:
        raise InputError(
            f"{root} contains only one class, {classes[0]}. At least two are needed. {_LAYOUT}"
        )

    names: list[str] = []
    labels: list[int] = []
    stamp: list[tuple[int, int]] = []
    found: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for split, folders in splits.items():
        above = f"{holders[split]}/" if holders else ""
        start = len(names)
        for label, (name, folder) in enumerate(folders.items()):
            names += [f"{above}{name}/{file.name}" for file in folder.files]
            labels += [label] * len(folder.files)
            stamp += [(file.size, file.mtime_ns) for file in folder.files]
        found[split] = np.arange(start, len(names))
    return Listing(
        kind="folder",
        source=str(root),
        name=root.name or "images",
        classes=classes,
        channels=3,
        names=names,
        labels=np.array(labels, dtype=np.int64),
        found=found,
        stamp=np.array(stamp, dtype=np.int64).reshape(-1, 2),
        root=root,
        has_splits=bool(holders),
        notes=_next_to_splits(root),
    )


def _look(path: Path, *, in_class: bool = False) -> _Folder:
    """The contents of a folder by name, without hidden files and those of file managers."""
    folders: list[str] = []
    files: list[_File] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in _LITTER:
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
    return _Folder(path, tuple(sorted(folders)), tuple(sorted(files, key=lambda file: file.name)))


def _split_folders(top: _Folder) -> dict[str, str]:
    """Split to the name of its folder; empty when these are class folders."""
    holders: dict[str, str] = {}
    for name in top.folders:
        split = _CALLED.get(name.lower())
        if split in holders:
            raise InputError(
                f"{top.path} has two folders for the {split} split, {holders[split]} and {name}. "
                "Keep one."
            )
        if split:
            holders[split] = name
    if not holders:
        return {}
    others = [name for name in top.folders if name not in holders.values()]
    if others:
        few = _few(others)
        raise InputError(
            f"{top.path} mixes splits ({_few(holders.values())}) with folders that are not splits "
            f"({few}). Move {few} elsewhere or, if {_few(holders.values())} is meant as a class, "
            "rename it."
        )
    if top.images:
        raise InputError(
            f"{top.path} has images next to the folders {_few(holders.values())}, for example "
            f"{top.images[0].name}. Move them into class folders or elsewhere."
        )
    if "train" not in holders:
        raise InputError(
            f"{top.path} has {_few(holders.values())} but no train folder. Give the folder that "
            "contains train, or rename the one to train on."
        )
    return {split: holders[split] for split in SPLITS if split in holders}


def _classes(above: _Folder, *, is_root: bool = False) -> dict[str, _Folder]:
    """The class folders in this folder, with their contents."""
    path = above.path
    if not above.folders:
        if above.images:
            give = (
                f"If {path.name} is one class of several, give the folder above, {path.parent}. "
                if is_root
                else ""
            )
            raise InputError(
                f"{path} has images directly inside, for example {above.images[0].name}, and no "
                f"class folders. {give}{_LAYOUT}"
            )
        raise InputError(f"{path} has no images in class folders. {_LAYOUT}")
    if above.images:
        raise InputError(
            f"{path} has images next to the class folders, for example {above.images[0].name}. "
            "Move them into a class folder or elsewhere."
        )
    folders = {name: _look(path / name, in_class=True) for name in above.folders}
    _names_apart(path, folders)

    deep = {name: folder for name, folder in folders.items() if _deep(folder)}
    higher = [name for name in deep if not folders[name].images]
    if higher:
        roots = [name for name in higher if _like_root(folders[name])] or higher
        if len(folders) == 1:
            raise InputError(
                f"{path} contains only the folder {roots[0]}, whose images are deeper: it is one "
                f"level too high. Give {path / roots[0]}."
            )
        raise InputError(
            f"{path} does not contain class folders: in {_few(higher)} the images are deeper, for "
            f"example in {_deep(folders[higher[0]])}. Give {_few(path / name for name in roots)}"
            f"{' (one of them)' if len(roots) > 1 else ''}, or move the images up. {_LAYOUT}"
        )
    if deep:
        name, folder = next(iter(deep.items()))
        raise InputError(
            f"The class folder {folder.path} has images in a folder inside it, {_deep(folder)}. "
            f"Move them up into {name} or elsewhere: only files directly in a class folder count."
        )
    empty = [name for name, folder in folders.items() if not folder.files]
    if len(empty) == len(folders):
        raise InputError(f"{path} has no images: its folders {_few(empty)} are empty. {_LAYOUT}")
    if empty:
        raise InputError(
            f"{path} has {'an empty class folder' if len(empty) == 1 else 'empty class folders'}: "
            f"{_few(empty)}. Add images, or remove {'it' if len(empty) == 1 else 'them'} from "
            "every split."
        )
    return folders


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


def _like_root(folder: _Folder) -> bool:
    """Whether this folder could be given: it has splits, or several class folders."""
    if any(name.lower() in _CALLED for name in folder.folders):
        return True
    return sum(bool(_look(folder.path / name, in_class=True).images) for name in folder.folders) > 1


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


def _same_classes(splits: Mapping[str, Mapping[str, _Folder]], holders: Mapping[str, str]) -> None:
    trained = splits["train"]
    wrong: list[str] = []
    hint = ""
    for split, classes in splits.items():
        lacks = [name for name in trained if name not in classes]
        extra = [name for name in classes if name not in trained]
        if lacks:
            wrong.append(f"{holders[split]} lacks {_few(lacks)}")
        if extra:
            wrong.append(f"{holders[split]} has {_few(extra)}, which {holders['train']} lacks")
        if {_plain(name) for name in lacks} & {_plain(name) for name in extra}:
            hint = " Some differ only in upper and lower case or in their Unicode form."
    if wrong:
        raise InputError(
            f"The classes differ between the splits: {'; '.join(wrong)}.{hint} Every split needs "
            "the same class folders."
        )


def _next_to_splits(root: Path) -> list[str]:
    """A note if the root is itself one split of a larger data set."""
    if root.name.lower() not in _CALLED:
        return []
    try:
        with os.scandir(root.parent) as entries:
            others = sorted(
                entry.name
                for entry in entries
                if entry.name != root.name and entry.name.lower() in _CALLED and entry.is_dir()
            )
    except OSError:
        return []
    if not others:
        return []
    return [
        f"{root.name} is next to {_few(others)} in {root.parent}, but only {root.name} was used. "
        f"To use these splits, give {root.parent}."
    ]


def _few(names: Iterable[object], most: int = 5) -> str:
    listed: Sequence[str] = [str(name) for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
