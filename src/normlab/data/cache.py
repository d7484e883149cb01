"""The cache: every selected image decoded once, in one file of uint8.

An entry is a folder named by a hash of everything that decides its pixels. It is built next to its
place and renamed into it, so it is complete or absent. A second builder waits for the first one and
uses what it made. Where the cache cannot be locked, both do the work; the second finds the place
taken and uses what is there.

Its record ``index.json`` carries its own checksum and lists that of ``index.npz``, which has a
digest of every image's pixels. What is damaged is built again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from ..cache_files import one_at_a_time, say_damaged
from ..destinations import explained_disk_errors
from ..errors import InputError
from ..files import read_arrays, read_json, write_arrays, write_json
from ..places import cache_folder
from ..processes import as_they_end, cores
from ..seals import check_files, digests_of
from . import sources
from .array_file import ArrayFile, ChangedError
from .config import Resize
from .dataset import Pixels, pixel_digests
from .decode import RESIZE_RULES, BadImageError, read, square
from .hashes import listing_hash, state_and_hashes
from .levels import NO_LEVELS, Levels, Shown, assumed
from .sources import Listing

Progress = Callable[[str, int, int], None]
Rows = npt.NDArray[np.int64]

FORMAT = 3
_STAGE = "Reading images"
_STAGE_AGAIN = "Reading grey values"
_STAGE_WAITING = "Waiting for another process that reads these images"
_CHUNK = 64
_FEW_LEVELS = 32
_ATTEMPTS = 3
"""How often to build an entry that is deleted meanwhile, or whose files change."""
_FEW_FILES = 500
_STALE_SECONDS = 24 * 3600
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)
_INDEX = "index.npz"
_INDEX_SLACK = 1 << 16
"""Bytes of an index beside its arrays."""
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True)
class Wanted:
    """What decides the pixels of a file.

    Attributes:
        size: side of the squares.
        resize: how an image becomes one.
        levels: black and white of grey values of more than 8 bits; None takes those that the
            images show.
    """

    size: int
    resize: Resize = "crop"
    levels: Levels | None = None


@dataclass(frozen=True)
class Entry:
    """Cached images and what was measured when they were written, one row per image.

    Attributes:
        digests: 64-bit hash of the pixels.
        sums: per channel, of the pixel values; ``squares`` of their squares.
        bad: row to the reason why there is no image; its pixels are 0.
        levels: black and white of grey values of more than 8 bits.
        frames: row to the number of frames, where there are several.
        said: sentences about values: what was taken for black and white, and what was lost.
    """

    pixels: Pixels
    digests: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    bad: dict[int, str]
    levels: Levels
    frames: dict[int, int]
    said: tuple[str, ...]


@dataclass
class _Part:
    """What was measured of some rows.

    Attributes:
        rows: which.
        shown: row to the range of its values, where they have more than 8 bits.
        upper_half: how many have colours of 16 bits, of which 8 were read.
        used: (256,) whether a level occurs.
        others: see :class:`Entry`.
    """

    rows: Rows
    digests: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    bad: dict[int, str] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)
    shown: dict[int, Shown] = field(default_factory=dict)
    upper_half: int = 0
    used: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, np.bool_))

    @classmethod
    def empty(cls, count: int, channels: int) -> _Part:
        return cls(
            np.arange(count),
            np.zeros(count, np.uint64),
            np.zeros((count, channels), np.int64),
            np.zeros((count, channels), np.int64),
        )

    def add(self, part: _Part) -> None:
        """Take in what was measured of some of these rows."""
        self.digests[part.rows] = part.digests
        self.sums[part.rows], self.squares[part.rows] = part.sums, part.squares
        self.bad |= part.bad
        self.frames |= part.frames
        self.shown |= part.shown
        self.upper_half += part.upper_half
        self.used |= part.used


class _Kept(Pixels):
    """Cached pixels that are made again from their source if they are gone or damaged."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], source: str, rows: Rows, wanted: Wanted
    ) -> None:
        super().__init__(path, shape)
        self._source, self._rows, self._wanted = source, rows, wanted

    def make_again(self, rows: Rows, digests: npt.NDArray[np.uint64], error: Exception) -> None:
        def sound(entry: Entry) -> bool:
            # Another process may have made it again meanwhile.
            try:
                entry.pixels.checked(rows, digests)
            except (OSError, InputError):
                return False
            return True

        listing = sources.find(self._source)
        made = None
        if int(self._rows.max()) < len(listing.names):
            made = obtain(listing, self._rows, self._wanted, workers=1, sound=sound)
        if made is None or made.pixels.path.parent.name != self.path.parent.name or not sound(made):
            raise InputError(
                f"The cache in {self.path.parent.parent} was deleted or damaged, and "
                f"{self._source} now has other images than when they were cached. Run the same "
                "command again."
            )
        self.forget(made.pixels.path)  # elsewhere if this process has another cache

    def __getstate__(self) -> Any:
        return self.path, self.shape, self._source, self._rows, self._wanted


def obtain(
    listing: Listing,
    rows: Rows,
    wanted: Wanted,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    sound: Callable[[Entry], bool] = lambda entry: True,
) -> Entry:
    """These rows of the source as squares, from the cache or newly built.

    An entry is known by the contents of its files, so a changed file is never served as it was, and
    a file that only has another time is not decoded again.

    Args:
        listing: of the source.
        rows: of the listing.
        wanted: what decides the pixels.
        progress: called with a stage, and how many of how many images are done.
        workers: processes that decode.
        sound: whether an entry that is there can be used.

    Raises:
        InputError: the source or the cache cannot be used.
    """
    shape = (len(rows), wanted.size, wanted.size, listing.channels)

    def found(place: Path) -> Entry | None:
        entry = _read(place, shape, listing.source, rows, wanted)
        return entry if entry is not None and sound(entry) else None

    def waiting() -> None:
        if progress:
            progress(_STAGE_WAITING, 0, len(rows))

    for _ in range(_ATTEMPTS):
        state, contents = state_and_hashes(listing, progress, rows)
        place = cache_folder("images") / _name(listing, rows, contents, wanted)
        entry = found(place)
        if entry is not None and not _readable_again(listing, rows, wanted, entry):
            return entry
        with one_at_a_time("images", place.name, waiting):
            entry = found(place)
            if entry is not None and not _readable_again(listing, rows, wanted, entry):
                return entry
            if entry is None and os.path.lexists(place):
                say_damaged(place, "is damaged (it is not what was written)")
            entry = _built(place, listing, rows, wanted, progress, workers)
            if entry is None:
                continue
            if listing_hash(listing, rows) == state:
                return entry
            # A file changed while it was read: what was built may not be what its name says.
            with explained_disk_errors(place):
                _clear(place)
    raise InputError(
        f"The images in {listing.source}, or the image cache in {place.parent}, changed while they "
        "were being read. Try again, or set the variable NORMLAB_CACHE to a folder of your own."
    )


def _built(
    place: Path,
    listing: Listing,
    rows: Rows,
    wanted: Wanted,
    progress: Progress | None,
    workers: int | None,
) -> Entry | None:
    """A new entry at its place; None if it was deleted or changed meanwhile."""
    shape = (len(rows), wanted.size, wanted.size, listing.channels)
    # Report what is wrong with the source before writing anything.
    arrays = listing.arrays() if listing.arrays else None
    try:
        _clear(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        work = _next_to(place)
        work.mkdir()
        try:
            images = ArrayFile.create(work / "images.npy", shape)
            index = _Part.empty(len(rows), listing.channels)

            def fill(stage: str, parts: Iterator[_Part], total: int) -> None:
                done = 0
                for part in parts:
                    index.add(part)
                    done += len(part.rows)
                    if progress:
                        progress(stage, done, total)

            levels = wanted.levels or NO_LEVELS
            if arrays is not None:
                fill(_STAGE, _fill_arrays(images, arrays, rows, wanted), len(rows))
            else:
                source = _Files(work / "images.npy", listing, rows, workers)
                fill(_STAGE, source.filled(index.rows, wanted), len(rows))
                if index.shown and wanted.levels is None:
                    # The range belongs to the set, so it is known once every file was looked at.
                    levels = Levels.of(index.shown.values())
                    again = np.array(sorted(index.shown))
                    known = replace(wanted, levels=levels)
                    fill(_STAGE_AGAIN, source.filled(again, known), len(again))
            images.sync()
            images.close()  # a file that is open cannot be renamed everywhere
            _write_index(work, index, levels, wanted, listing)
            _publish(work, place, shape, listing.source, rows, wanted)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except (FileNotFoundError, ChangedError):
        return None
    except OSError as error:
        raise InputError(
            f"The image cache in {place.parent} cannot be written: {error.strerror or error}. "
            "Free some space, or set the variable NORMLAB_CACHE to a folder on another disk."
        ) from error
    return _read(place, shape, listing.source, rows, wanted)


def _name(listing: Listing, rows: Rows, contents: npt.NDArray[np.uint64], wanted: Wanted) -> str:
    """The entry's name: readable, then a hash of everything that decides the pixels."""
    head = [
        FORMAT,
        listing.kind,
        listing.source,
        RESIZE_RULES[wanted.resize],
        wanted.size,
        listing.channels,
        PIL.__version__,
        np.__version__,
        None if wanted.levels is None else asdict(wanted.levels),
    ]
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=10)
    hashed.update("\0".join([listing.names[row] for row in rows.tolist()]).encode())
    hashed.update(np.ascontiguousarray(contents).tobytes())
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", listing.name)[:40].strip("-") or "images"
    return f"{plain}-{wanted.size}px-{hashed.hexdigest()}"


def _next_to(place: Path) -> Path:
    return place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sweep(folder: Path) -> None:
    """Remove what killed builders left behind."""
    before = time.time() - _STALE_SECONDS
    for left in folder.glob("*.tmp"):
        try:
            newest = max(path.stat().st_mtime for path in (left, *left.iterdir()))
        except OSError:
            continue
        if newest < before:
            shutil.rmtree(left, ignore_errors=True)


def _measure(rows: Rows, pixels: npt.NDArray[np.uint8]) -> _Part:
    # 255 squared still fits 16 bits.
    squares = np.multiply(pixels, pixels, dtype=np.uint16)
    return _Part(
        rows,
        pixel_digests(pixels),
        _sums(pixels),
        _sums(squares),
    )


def _sums(values: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.int64]:
    """Per image and channel, exact: 16-bit values of 65,537 rows fit 32 bits."""
    count, height, width, channels = values.shape
    # Down whole rows first: along the channels alone the inner loop has only three values.
    down = values.reshape(count, height, width * channels).sum(axis=1, dtype=np.uint32)
    sums: npt.NDArray[np.int64] = down.reshape(count, width, channels).sum(axis=1, dtype=np.int64)
    return sums


def _fill_arrays(
    images: ArrayFile, source: npt.NDArray[np.uint8], rows: Rows, wanted: Wanted
) -> Iterator[_Part]:
    size = wanted.size
    for start in range(0, len(rows), 16 * _CHUNK):
        pixels = source[rows[start : start + 16 * _CHUNK]]
        if pixels.shape[1:3] != (size, size):
            pixels = np.stack(
                [
                    square(
                        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image),
                        size,
                        wanted.resize,
                    )
                    for image in pixels
                ]
            )
        places = np.arange(start, start + len(pixels))
        images.write(places, pixels)
        yield _measure(places, pixels)


def _fill_chunk(
    images: Path,
    count: int,
    rows: Rows,
    root: Path,
    names: list[str],
    wanted: Wanted,
    channels: int,
) -> _Part:
    """Decode some files into the file of all images; runs in a worker process."""
    size = wanted.size
    pixels = np.zeros((len(names), size, size, channels), dtype=np.uint8)
    bad: dict[int, str] = {}
    frames: dict[int, int] = {}
    shown: dict[int, Shown] = {}
    upper_half = 0
    there = np.zeros(len(names), np.bool_)
    for place, (row, name) in enumerate(zip(rows.tolist(), names, strict=True)):
        try:
            image = read(root / name, size, channels, resize=wanted.resize, levels=wanted.levels)
        except BadImageError as error:
            bad[row] = str(error)
            continue
        if image.pixels is not None:
            pixels[place], there[place] = image.pixels, True
        if image.shown is not None:
            shown[row] = image.shown
        if image.frames > 1:
            frames[row] = image.frames
        upper_half += image.upper_half
    written = ArrayFile(images, (count, *pixels.shape[1:]), write=True)
    written.write(rows, pixels)
    written.close()
    used = np.zeros(256, np.bool_)
    used[pixels[there].ravel()] = True
    return replace(
        _measure(rows, pixels),
        bad=bad,
        frames=frames,
        shown=shown,
        upper_half=upper_half,
        used=used,
    )


@dataclass(frozen=True)
class _Files:
    """Files that are decoded into one.

    Attributes:
        images: the one.
        listing: of the source.
        rows: of the listing, one for each row of the file.
        workers: processes; None uses all cores, or none for few files.
    """

    images: Path
    listing: Listing
    rows: Rows
    workers: int | None

    def filled(self, places: Rows, wanted: Wanted) -> Iterator[_Part]:
        """Decode the files of these rows."""
        workers = self.workers
        # Processes take a second to start, in which one decodes some hundred files.
        if workers == 1 or (workers is None and len(places) < _FEW_FILES):
            return (_fill_chunk(*job) for job in self._jobs(places, wanted, _CHUNK))
        workers = workers or cores()
        # At the end a process may wait for another's last chunk: at most a sixteenth of its work.
        chunk = max(1, min(_CHUNK, len(places) // (16 * workers)))
        return as_they_end(_fill_chunk, self._jobs(places, wanted, chunk), workers)

    def _jobs(
        self, places: Rows, wanted: Wanted, chunk: int
    ) -> Iterator[tuple[Path, int, Rows, Path, list[str], Wanted, int]]:
        root = self.listing.root
        assert root is not None
        for start in range(0, len(places), chunk):
            some = places[start : start + chunk]
            names = [self.listing.names[row] for row in self.rows[some].tolist()]
            count = len(self.rows)
            yield self.images, count, some, root, names, wanted, self.listing.channels


def _said(index: _Part, levels: Levels, wanted: Wanted, listing: Listing) -> list[str]:
    """What a person should know of the values of the files."""
    if listing.root is None:
        return []
    said = assumed(index.shown.values(), levels) if wanted.levels is None else []
    if index.upper_half:
        one = index.upper_half == 1
        said.append(
            f"{index.upper_half:,} file{'s' * (not one)} {'has' if one else 'have'} 16 bits per "
            "colour, of which the upper 8 are read."
        )
    levels_used = int(index.used.sum())
    if 0 < levels_used < _FEW_LEVELS:
        said.append(
            f"All images together have only {levels_used} of 256 levels of brightness. If they "
            "should have more, their values use a small part of the range that the files allow: "
            "save them with 8 bits, black as 0 and white as 255."
        )
    return said


def _write_index(
    work: Path, index: _Part, levels: Levels, wanted: Wanted, listing: Listing
) -> None:
    about = {
        "format": FORMAT,
        "kind": listing.kind,
        "source": listing.source,
        "images": len(index.digests),
        "bad": {str(row): reason for row, reason in sorted(index.bad.items())},
        "levels": asdict(levels),
        "frames": {str(row): count for row, count in sorted(index.frames.items())},
        "said": _said(index, levels, wanted, listing),
    }
    arrays = {"digests": index.digests, "sums": index.sums, "squares": index.squares}
    write_arrays(work / _INDEX, arrays)
    write_json(work / "index.json", {**about, "files": digests_of(work, [_INDEX])})


def _publish(
    work: Path, place: Path, shape: tuple[int, ...], source: str, rows: Rows, wanted: Wanted
) -> None:
    for _ in range(3):
        try:
            work.rename(place)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return
        if _read(place, shape, source, rows, wanted) is not None:
            return
        _clear(place)


def _clear(place: Path) -> None:
    """Move what is at an entry's place out of the way in one step."""
    away = _next_to(place)
    try:
        place.rename(away)
    except (FileNotFoundError, NotADirectoryError):
        return
    if away.is_dir() and not away.is_symlink():
        shutil.rmtree(away, ignore_errors=True)
    else:
        away.unlink(missing_ok=True)


def _read(
    place: Path, shape: tuple[int, ...], source: str, rows: Rows, wanted: Wanted
) -> Entry | None:
    """The entry, or None if it is absent or not exactly as it was written."""
    count, channels = shape[0], shape[-1]
    try:
        about = read_json(place / "index.json")
        if about["format"] != FORMAT or about["images"] != count:
            return None
        check_files(place, about["files"])
        most = _INDEX_SLACK + count * 8 * (1 + 2 * channels)
        index = read_arrays(place / _INDEX, most)
        digests, sums, squares = index["digests"], index["sums"], index["squares"]
        ArrayFile(place / "images.npy", shape).close()
        good = (
            digests.shape == (count,)
            and sums.shape == squares.shape == (count, channels)
            and digests.dtype == np.uint64
            and sums.dtype == squares.dtype == np.int64
        )
        bad = {int(row): str(reason) for row, reason in about["bad"].items()}
        frames = {int(row): int(number) for row, number in about["frames"].items()}
        if not good or not all(0 <= row < count for row in (*bad, *frames)):
            return None
        levels, said = Levels.read(about["levels"]), tuple(map(str, about["said"]))
    except _DAMAGE:
        return None
    kept = _Kept(place / "images.npy", shape, source, rows, wanted)
    return Entry(kept, digests, sums, squares, bad, levels, frames, said)


def _readable_again(listing: Listing, rows: Rows, wanted: Wanted, entry: Entry) -> bool:
    """Whether a bad file can be read now: permissions change without touching the file."""
    if listing.root is None:
        return False
    for row in entry.bad:
        path = listing.root / listing.names[int(rows[row])]
        try:
            read(path, wanted.size, listing.channels, levels=wanted.levels)
        except BadImageError:
            continue
        return True
    return False
