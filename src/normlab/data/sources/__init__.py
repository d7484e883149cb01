"""Where images come from: the contents of a path, listed without decoding anything."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from . import cifar, digits, folder, idx
from .base import Listing

__all__ = ["Listing", "find"]


def find(source: str) -> Listing:
    """The images in ``source``, listed.

    Raises:
        InputError: there is nothing to train on; the message says what to give instead.
    """
    if source == "digits":
        return digits.find()
    try:
        path = Path(source).expanduser()
        path.stat()
        if not path.is_dir():
            raise InputError(f"{source} is a file. Give the folder that contains the images.")
        root = path.resolve()
        batches = cifar.holds(root)
        if batches is not None:
            return cifar.find(batches)
        return idx.find(root) if idx.holds(root) else _folder(root)
    except FileNotFoundError as error:
        raise InputError(
            f"{source} does not exist. Give a folder of images, or the word digits."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        # RuntimeError: no home folder for ~; ValueError: a NUL in the path.
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        where = getattr(error, "filename", None) or source
        raise InputError(f"{where} cannot be read: {reason or error}.") from error


def _folder(root: Path) -> Listing:
    try:
        return folder.find(root)
    except InputError:
        for inner in sorted(root.iterdir()):
            if inner.is_dir() and (cifar.holds(inner) or idx.holds(inner)):
                raise InputError(
                    f"{root} is one level too high. Give {inner}, which contains the files."
                ) from None
        raise
