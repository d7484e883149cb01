"""The cache: every selected image decoded once, as one memory map of uint8.

An entry is a folder named by a hash of everything that decides its pixels. It is built next to its
place and renamed into it, so it is complete or absent. Two builders at once do the work twice; the
second finds the place taken and uses what is there.
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
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from ..errors import InputError
from ..places import cache_folder
from ..processes import expect_replaced_processes
from . import sources
from .dataset import Pixels
from .decode import RESIZE_RULE, BadImageError, decode, square
from .hashes import listing_hash, state_and_hashes
from .sources import Listing

Progress = Callable[[str, int, int], None]
Rows = npt.NDArray[np.int64]

FORMAT = 2
_STAGE = "Reading images"
_CHUNK = 64
_ATTEMPTS = 3
"""How often to build an entry that is deleted meanwhile, or whose files change."""
_FEW_FILES = 500
_STALE_SECONDS = 24 * 3600
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
_NO_SUCH_CALL = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True)
class Entry:
    """Cached images and what was measured when they were written, one row per image.

    Attributes:
        digests: 64-bit hash of the pixels.
        sums: per channel, of the pixel values; ``squares`` of their squares.
        bad: row to the reason why there is no image; its pixels are 0.
    """

    pixels: Pixels
    digests: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    bad: dict[int, str]


@dataclass
class _Index:
    """Measured while the pixels are written."""

    digests: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.int64]
    squares: npt.NDArray[np.int64]
    bad: dict[int, str] = field(default_factory=dict)


class _Kept(Pixels):
    """Cached pixels that are made again from their source if the cache has been deleted.

    A process that has opened them keeps them: a file that is deleted while it is mapped stays until
    it is unmapped.
    """

    def __init__(self, path: Path, source: str, rows: Rows, size: int) -> None:
        super().__init__(path)
        self._source, self._rows, self._size = source, rows, size

    @property
    def map(self) -> npt.NDArray[np.uint8]:
        with suppress(InputError):
            return super().map
        made = obtain(sources.find(self._source), self._rows, self._size, workers=1)
        if made.pixels.path != self.path:
            raise InputError(
                f"The cache in {self.path.parent.parent} was deleted, and {self._source} now has "
                "other images than when they were cached. Run the same command again."
            )
        return super().map

    def __getstate__(self) -> Any:
        return self.path, self._source, self._rows, self._size

    def __setstate__(self, state: Any) -> None:
        self.__init__(*state)  # type: ignore[misc]


def obtain(
    listing: Listing,
    rows: Rows,
    size: int,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Entry:
    """These rows of the source as squares of ``size``, from the cache or newly built.

    An entry is known by the contents of its files, so a changed file is never served as it was, and
    a file that only has another time is not decoded again.

    Raises:
        InputError: the source or the cache cannot be used.
    """
    for _ in range(_ATTEMPTS):
        state, contents = state_and_hashes(listing, progress, rows)
        place = cache_folder("images") / _name(listing, rows, contents, size)
        entry = _read(place, (len(rows), size, size, listing.channels), listing.source, rows)
        outdated = entry is not None and _readable_again(listing, rows, size, entry)
        if entry is not None and not outdated:
            return entry
        if outdated:
            _clear(place)
        entry = _built(place, listing, rows, size, progress, workers)
        if entry is None:
            continue
        if listing_hash(listing, rows) == state:
            return entry
        # A file changed while it was read: what was built may not be what its name says.
        _clear(place)
    raise InputError(
        f"The images in {listing.source}, or the image cache in {place.parent}, changed while they "
        "were being read. Try again, or set the variable NORMLAB_CACHE to a folder of your own."
    )


def _built(
    place: Path,
    listing: Listing,
    rows: Rows,
    size: int,
    progress: Progress | None,
    workers: int | None,
) -> Entry | None:
    """A new entry at its place; None if it was deleted meanwhile."""
    shape = (len(rows), size, size, listing.channels)
    # Report what is wrong with the source before writing anything.
    arrays = listing.arrays() if listing.arrays else None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        work = _next_to(place)
        work.mkdir()
        try:
            images = reserve(work / "images.npy", shape)
            index = _Index(
                np.zeros(len(rows), np.uint64),
                np.zeros((len(rows), listing.channels), np.int64),
                np.zeros((len(rows), listing.channels), np.int64),
            )
            if arrays is not None:
                filled = _fill_arrays(images, arrays, rows, size)
            else:
                filled = _fill_files(work / "images.npy", listing, rows, size, workers)
            done = 0
            for part, digests, sums, squares, bad in filled:
                index.digests[part], index.sums[part], index.squares[part] = digests, sums, squares
                index.bad |= bad
                done += len(digests)
                if progress:
                    progress(_STAGE, done, len(rows))
            images.flush()
            _write_index(work, index, listing)
            _publish(work, place, shape, listing.source, rows)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"The image cache in {place.parent} cannot be written: {error.strerror or error}. "
            "Free some space, or set the variable NORMLAB_CACHE to a folder on another disk."
        ) from error
    return _read(place, shape, listing.source, rows)


def _name(listing: Listing, rows: Rows, contents: npt.NDArray[np.uint64], size: int) -> str:
    """The entry's name: readable, then a hash of everything that decides the pixels."""
    head = [
        FORMAT,
        listing.kind,
        listing.source,
        RESIZE_RULE,
        size,
        listing.channels,
        PIL.__version__,
        np.__version__,
    ]
    hashed = hashlib.blake2b(json.dumps(head).encode(), digest_size=10)
    hashed.update("\0".join([listing.names[row] for row in rows.tolist()]).encode())
    hashed.update(np.ascontiguousarray(contents).tobytes())
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", listing.name)[:40].strip("-") or "images"
    return f"{plain}-{size}px-{hashed.hexdigest()}"


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


def reserve(
    path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8
) -> np.memmap[Any, np.dtype[Any]]:
    """A new .npy file as a memory map, with its disk space allocated.

    A new map is a hole; writing into it on a full disk would kill the process with SIGBUS.
    """
    images = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except (AttributeError, OSError) as error:
            # Some systems and some file systems do not have this call.
            if isinstance(error, OSError) and error.errno not in _NO_SUCH_CALL:
                raise
            file.seek(images.offset)
            zeros = bytes(1 << 20)
            for start in range(0, images.nbytes, len(zeros)):
                file.write(zeros[: images.nbytes - start])
    return images


_Part = tuple[
    slice,
    npt.NDArray[np.uint64],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    dict[int, str],
]


def _measure(start: int, pixels: npt.NDArray[np.uint8], bad: dict[int, str]) -> _Part:
    digests = [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")
        for image in pixels
    ]
    # 255 squared still fits 16 bits.
    squares = np.multiply(pixels, pixels, dtype=np.uint16)
    return (
        slice(start, start + len(pixels)),
        np.array(digests, dtype=np.uint64),
        _sums(pixels),
        _sums(squares),
        bad,
    )


def _sums(values: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.int64]:
    """Per image and channel, exact: 16-bit values of 65,537 rows fit 32 bits."""
    count, height, width, channels = values.shape
    # Down whole rows first: along the channels alone the inner loop has only three values.
    down = values.reshape(count, height, width * channels).sum(axis=1, dtype=np.uint32)
    sums: npt.NDArray[np.int64] = down.reshape(count, width, channels).sum(axis=1, dtype=np.int64)
    return sums


def _fill_arrays(
    images: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8], rows: Rows, size: int
) -> Iterator[_Part]:
    for start in range(0, len(rows), 16 * _CHUNK):
        pixels = source[rows[start : start + 16 * _CHUNK]]
        if pixels.shape[1:3] != (size, size):
            pixels = np.stack(
                [
                    square(
                        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image), size
                    )
                    for image in pixels
                ]
            )
        images[start : start + len(pixels)] = pixels
        yield _measure(start, pixels, {})


def _fill_chunk(
    images: Path, start: int, root: Path, names: Sequence[str], size: int, channels: int
) -> _Part:
    """Decode some files straight into the memory map; runs in a worker process."""
    pixels = np.zeros((len(names), size, size, channels), dtype=np.uint8)
    bad: dict[int, str] = {}
    for row, name in enumerate(names):
        try:
            pixels[row] = decode(root / name, size, channels)
        except BadImageError as error:
            bad[start + row] = str(error)
    # The file must exist: a worker that outlives its builder must not create it again.
    written = np.load(images, mmap_mode="r+")
    written[start : start + len(names)] = pixels
    return _measure(start, pixels, bad)


def _fill_files(
    images: Path, listing: Listing, rows: Rows, size: int, workers: int | None
) -> Iterator[_Part]:
    names = [listing.names[row] for row in rows.tolist()]

    def jobs(chunk: int) -> Iterator[tuple[Path, int, Path, Sequence[str], int, int]]:
        assert listing.root is not None
        for start in range(0, len(names), chunk):
            some = names[start : start + chunk]
            yield images, start, listing.root, some, size, listing.channels

    # Processes take a second to start, in which one decodes some hundred files.
    if workers == 1 or (workers is None and len(names) < _FEW_FILES):
        return (_fill_chunk(*job) for job in jobs(_CHUNK))
    import joblib

    workers = workers or joblib.cpu_count()
    # At the end a process may wait for another's last chunk: at most a sixteenth of its work.
    chunk = max(1, min(_CHUNK, len(names) // (16 * workers)))
    expect_replaced_processes()
    parallel = joblib.Parallel(
        n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1
    )
    return parallel(joblib.delayed(_fill_chunk)(*job) for job in jobs(chunk))  # type: ignore[no-any-return]


def _write_index(work: Path, index: _Index, listing: Listing) -> None:
    about = {
        "format": FORMAT,
        "kind": listing.kind,
        "source": listing.source,
        "images": len(index.digests),
        "bad": {str(row): reason for row, reason in sorted(index.bad.items())},
    }
    with (work / "index.npz").open("wb") as file:
        np.savez(file, digests=index.digests, sums=index.sums, squares=index.squares)
        file.flush()
        os.fsync(file.fileno())
    with (work / "index.json").open("w", encoding="utf-8") as text:
        json.dump(about, text, indent=1)
        text.flush()
        os.fsync(text.fileno())


def _publish(work: Path, place: Path, shape: tuple[int, ...], source: str, rows: Rows) -> None:
    for _ in range(3):
        try:
            work.rename(place)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return
        if _read(place, shape, source, rows) is not None:
            return
        _clear(place)


def _clear(place: Path) -> None:
    """Move a damaged entry out of the way in one step."""
    away = _next_to(place)
    try:
        place.rename(away)
    except FileNotFoundError:
        return
    if away.is_dir() and not away.is_symlink():
        shutil.rmtree(away, ignore_errors=True)
    else:
        away.unlink(missing_ok=True)


def _read(place: Path, shape: tuple[int, ...], source: str, rows: Rows) -> Entry | None:
    """The entry, or None if it is absent or not exactly as it was written."""
    count, channels = shape[0], shape[-1]
    try:
        about = json.loads((place / "index.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT or about["images"] != count:
            return None
        with (place / "index.npz").open("rb") as file, np.load(file) as index:
            digests, sums, squares = index["digests"], index["sums"], index["squares"]
        images = np.load(place / "images.npy", mmap_mode="r")
        good = (
            images.shape == shape
            and images.dtype == np.uint8
            and (place / "images.npy").stat().st_size == images.offset + images.nbytes
            and (digests.shape, digests.dtype) == ((count,), np.uint64)
            and (sums.shape, sums.dtype) == ((count, channels), np.int64)
            and (squares.shape, squares.dtype) == ((count, channels), np.int64)
        )
        bad = {int(row): str(reason) for row, reason in about["bad"].items()}
        if not good or not all(0 <= row < count for row in bad):
            return None
    except _DAMAGE:
        return None
    kept = _Kept(place / "images.npy", source, rows, shape[1])
    return Entry(kept, digests, sums, squares, bad)


def _readable_again(listing: Listing, rows: Rows, size: int, entry: Entry) -> bool:
    """Whether a bad file can be read now: permissions change without touching the file."""
    if listing.root is None:
        return False
    for row in entry.bad:
        try:
            decode(listing.root / listing.names[int(rows[row])], size, listing.channels)
        except BadImageError:
            continue
        return True
    return False
