"""CIFAR-10 batches, binary or Python.

The Python ones are pickles, and a pickle can call anything it names. Here it can call nothing:
the five names in a pickled NumPy array get inert stand-ins, which are then read as plain data;
everything else is refused before it is reached.
"""

from __future__ import annotations

import io
import pickle
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...bounded import read_file
from ...errors import InputError
from .base import Images, Listing

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_RECORD = 1 + _PIXELS
_MOST_BYTES = 100_000 * _RECORD
"""Of a batch; those of CIFAR-10 have 10,000 images."""
_MOST_META = 1 << 18
_LONGEST = 200
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_EXTRACTED = ("cifar-10-batches-py", "cifar-10-batches-bin")

_Batch = tuple[npt.NDArray[np.int64], Images]


def holds(root: Path) -> Path | None:
    """The folder with the batches: this one, or the one that the archive unpacks to."""
    for folder in (root, *(root / name for name in _EXTRACTED)):
        if any((folder / f"{batch}{end}").is_file() for batch in _BATCHES for end in ("", ".bin")):
            return folder
    return None


def find(root: Path) -> Listing:
    """Labels; the pixels are read when they are first needed."""
    binary = not any((root / batch).is_file() for batch in _BATCHES)
    end = ".bin" if binary else ""
    read = _binary if binary else _python
    present = [batch for batch in _BATCHES if (root / (batch + end)).is_file()]
    for needed in (_BATCHES[0], _TEST):
        if not (root / (needed + end)).is_file():
            raise InputError(f"{root} lacks {needed}{end}. Add it from the CIFAR-10 archive.")
    paths = {batch: root / (batch + end) for batch in (*present, _TEST)}
    notes = []
    absent = [batch for batch in _BATCHES if batch not in present]
    if absent:
        notes.append(f"Missing and not used: {', '.join(name + end for name in absent)}.")

    classes = _classes(root, binary)
    if classes is None:
        classes = tuple(str(number) for number in range(10))
        notes.append("The file with the class names is missing, so classes are named by number.")
    labels: list[npt.NDArray[np.int64]] = []
    for path in paths.values():
        of_batch = read(path)[0]
        if len(of_batch) and of_batch.max() >= len(classes):
            raise InputError(
                f"{path} has label {of_batch.max()}, but there are {len(classes)} classes. The "
                "file is damaged or not a CIFAR-10 batch."
            )
        labels.append(of_batch)
    tested = len(labels[-1])
    trained = sum(map(len, labels)) - tested

    def arrays() -> Images:
        return np.concatenate([read(path)[1] for path in paths.values()])

    status = [path.stat() for path in paths.values()]
    return Listing(
        kind="cifar",
        source=str(root),
        name=root.name or "cifar",
        classes=classes,
        channels=3,
        names=[f"train/{row:05d}" for row in range(trained)]
        + [f"test/{row:05d}" for row in range(tested)],
        labels=np.concatenate(labels),
        found={"train": np.arange(trained), "test": np.arange(trained, trained + tested)},
        stamp=np.array([(s.st_size, s.st_mtime_ns) for s in status], dtype=np.int64),
        arrays=arrays,
        side=_SIDE,
        notes=notes,
    )


def _classes(root: Path, binary: bool) -> tuple[str, ...] | None:
    path = root / ("batches.meta.txt" if binary else "batches.meta")
    if not path.is_file():
        return None
    if binary:
        try:
            names: Any = read_file(path, _MOST_META).decode("utf-8").split("\n")
        except UnicodeDecodeError:
            raise InputError(f"{path} is not a text file of class names.") from None
        names = [name.strip() for name in names if name.strip()]
    else:
        names = _unpickle(path, _MOST_META).get("label_names")
    if (
        not isinstance(names, list)
        or not 2 <= len(names) <= 256
        or not all(isinstance(name, str) and _can_be_shown(name) for name in names)
        or len(set(names)) != len(names)
    ):
        raise InputError(f"{path} does not contain a list of different class names.")
    return tuple(names)


def _can_be_shown(name: str) -> bool:
    """Whether a name is text without control characters and halves of characters."""
    return 0 < len(name) <= _LONGEST and not any(
        unicodedata.category(letter) in ("Cc", "Cs") for letter in name
    )


def _images(flat: npt.NDArray[np.uint8]) -> Images:
    """(n, 3072), a colour plane after the other, to (n, 32, 32, 3)."""
    return flat.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)


def _binary(path: Path) -> _Batch:
    size = path.stat().st_size
    if size == 0 or size % _RECORD:
        raise InputError(
            f"{path} has {size:,} bytes, which is not a whole number of records of {_RECORD:,} "
            "bytes. It is cut short or not a CIFAR-10 batch. Download it again."
        )
    content = read_file(path, _MOST_BYTES)
    if len(content) != size:
        raise InputError(f"{path} changed while it was read. Try again.")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    return records[:, 0].astype(np.int64), _images(records[:, 1:])


def _python(path: Path) -> _Batch:
    batch = _unpickle(path)
    labels, data = batch.get("labels"), batch.get("data")
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label < 256 for label in labels
    ):
        raise InputError(f"{path} has no list of labels. It is damaged or not a CIFAR-10 batch.")
    if not isinstance(data, np.ndarray) or data.shape != (len(labels), _PIXELS) or not labels:
        found = f"an array of {data.shape}" if isinstance(data, np.ndarray) else "no images"
        raise InputError(
            f"{path} should contain {len(labels):,} images of {_PIXELS:,} uint8 values, but it "
            f"contains {found}. It is damaged or not a CIFAR-10 batch."
        )
    return np.array(labels, dtype=np.int64), _images(data)


def _unpickle(path: Path, most: int = _MOST_BYTES) -> dict[str, Any]:
    """The file's dictionary: text, whole numbers, lists, uint8 arrays."""
    try:
        content = _Reader(read_file(path, most), path).load()
    except InputError:
        raise
    except Exception as error:
        # A damaged pickle raises nearly anything, including MemoryError.
        raise InputError(
            f"{path} is damaged or not a Python batch of CIFAR-10 "
            f"({type(error).__name__}: {error}). Download it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} does not contain a dictionary, so it is not a Python batch of CIFAR-10."
        )
    return {str(_text(name)): _plain(value, path) for name, value in content.items()}


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _plain(value: Any, path: Path) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    if not isinstance(value, _Inert):
        return _text(value)
    array = value.as_array()
    if array is None:
        raise InputError(
            f"{path} contains something other than uint8 arrays in C order. CIFAR-10 never does."
        )
    return array


class _Inert:
    """Replaces an object that the pickle made: how it was made, and the state it was given."""

    def __init__(self, made_by: str, *arguments: object) -> None:
        self.made_by = made_by
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def as_array(self) -> Images | None:
        """The array that NumPy would make from a uint8 array's state; None for anything else."""
        if self.made_by != "_reconstruct" or not isinstance(self.state, tuple):
            return None
        if len(self.state) != 5:
            return None
        _, shape, dtype, fortran, data = self.state
        named = _text(dtype.arguments[0]) if isinstance(dtype, _Inert) and dtype.arguments else ""
        if not (isinstance(dtype, _Inert) and dtype.made_by == "dtype" and named in ("u1", "|u1")):
            return None
        if fortran or not isinstance(data, bytes):
            return None
        if not isinstance(shape, tuple) or len(shape) != 2:
            return None
        flat = np.frombuffer(data, dtype=np.uint8)
        if not all(type(side) is int and side >= 0 for side in shape):
            return None
        return flat.reshape(shape) if int(np.prod(shape, dtype=object)) == flat.size else None


def _stand_ins() -> Mapping[tuple[str, str], object]:
    """New ones for each file, so that nothing a pickle does to them outlives it."""

    def standing_for(name: str) -> Callable[..., _Inert]:
        return lambda *arguments: _Inert(name, *arguments)

    def encode(text: object, encoding: object = "latin1") -> bytes:
        """Python 3 writes bytes in old protocols as text with this call."""
        if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("text in another encoding than latin1")
        return text.encode("latin1")

    arrays = {
        (module, "_reconstruct"): standing_for("_reconstruct")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    }
    return {
        **arrays,
        ("numpy", "ndarray"): _Inert("ndarray"),
        ("numpy", "dtype"): standing_for("dtype"),
        ("_codecs", "encode"): encode,
    }


_Base: Any = pickle._Unpickler
"""The one in Python: that in C makes a table as long as the largest number in a file."""


class _Counted(io.BytesIO):
    """A file that is read a bounded number of times: nearly once for each step of a pickle."""

    left = 4_000_000

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("more steps than a batch needs")
        return super().read(size)


class _Reader(_Base):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        code: load
        for code, load in _Base.dispatch.items()
        # Members of sets are hashed, as keys are; the last makes as many bytes as are asked for.
        if code not in (pickle.ADDITEMS[0], pickle.FROZENSET[0], pickle.BYTEARRAY8[0])
    }

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(_Counted(content), encoding="bytes")
        self._path = path
        self._admitted = _stand_ins()

    def _pass_frame(self) -> None:
        """Frames only say how much to read at once."""
        self.read(8)

    def _set_item(self) -> None:
        _check_keys(self.stack[-2:-1])
        _Base.load_setitem(self)

    def _set_items(self) -> None:
        _check_keys(self.stack[::2])
        _Base.load_setitems(self)

    def _make_dictionary(self) -> None:
        _check_keys(self.stack[::2])
        _Base.load_dict(self)

    dispatch[pickle.FRAME[0]] = _pass_frame
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _make_dictionary

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._admitted:
            raise InputError(
                f"{self._path} is refused: it asks to run {module}.{name}, which no CIFAR-10 "
                "batch does. Nothing in it was run. Download the file again from its origin."
            )
        return self._admitted[module, name]


def _check_keys(keys: Sequence[object]) -> None:
    """Hashing a tuple that is nested deep enough ends the process."""
    if not all(isinstance(key, (str, bytes)) for key in keys):
        raise pickle.UnpicklingError("a key that is no text")
