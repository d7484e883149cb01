"""Predicting the classes of images with a trained model."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..data.cache import Progress as DataProgress
from ..errors import InputError
from ..files import csv_writer, write_with

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..models import ModelInfo

COLUMNS = ("path", "class", "probability")
_STAGE = "Predicting"


@dataclass(frozen=True)
class PredictionReport:
    """What :func:`predict` did.

    Attributes:
        rows: number of rows written, one per readable image.
        unreadable: file to the reason why it has no row.
        output: the CSV file.
    """

    rows: int
    unreadable: Mapping[str, str]
    output: Path


def predict(
    run: str | Path,
    images: Sequence[str],
    output: str | Path,
    *,
    device: str = "cpu",
    batch_size: int = 64,
    progress: DataProgress | None = None,
) -> PredictionReport:
    """Write the predicted class of each image and its probability.

    Images are decoded, made square and normalized as those the model was trained on. The
    model is in evaluation mode and computes in float32, even if it was trained in bfloat16. The
    CSV file has one row per image, in the order given: ``path`` as given or found, ``class`` by
    name, ``probability`` = max of softmax(logits), 6 decimals. It is written completely or not at
    all. If no image can be read, it only has a header.

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``.
        images: files, folders and patterns. A folder gives the images at any depth inside it,
            sorted, without hidden ones. An image is what says so by its extension or by how its
            content begins; one of a format that is not read (HEIC) is listed as unreadable. A
            pattern (``*``, ``?``, ``[...]``, ``**`` for any depth) gives the images it matches,
            sorted. A file named twice gives two rows.
        output: the CSV file.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        batch_size: images per forward pass, which are in memory at the same time. It does not
            change the classes.
        progress: called with a stage, the number of images done and the total.

    Raises:
        InputError: no model in ``run``, something in ``images`` that gives no image, or an output
            that cannot be written. Nothing is written then.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}.")
    import torch

    from ..data.decode import BadImageError
    from ..models import load_info, load_model
    from ..training import resolve_device

    device = resolve_device(device)
    model, info = load_model(run).to(device), load_info(Path(run))
    if info.in_channels not in (1, 3):
        raise InputError(
            f"The model in {run} takes {info.in_channels} channels, but image files have 1 or 3."
        )
    paths = find_images(images)
    output = Path(output)
    _check_output(output, paths)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).mul(255).float().to(device)
        for values in (info.mean, info.std)
    )
    decode = decoder_of(info)
    unreadable: dict[str, str] = {}
    rows = 0

    def decoded(batch: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        for path in batch:
            try:
                path.encode()
                yield path, decode(path)
            except UnicodeEncodeError:
                shown = path.encode("utf-8", "backslashreplace").decode()
                unreadable[shown] = "has a name that is not valid Unicode: rename it"
            except BadImageError as error:
                unreadable[path] = str(error)

    def write(aside: Path) -> None:
        nonlocal rows
        with aside.open("w", encoding="utf-8", newline="") as opened, torch.inference_mode():
            table = csv_writer(opened, COLUMNS)
            for start in range(0, len(paths), batch_size):
                batch = list(decoded(paths[start : start + batch_size]))
                if batch:
                    pixels = torch.stack([torch.from_numpy(image.copy()) for _, image in batch])
                    x = pixels.to(device).float().sub_(mean).div_(std).permute(0, 3, 1, 2)
                    highest, index = model(x).softmax(1).max(1)
                    for (path, _), p, i in zip(
                        batch, highest.tolist(), index.tolist(), strict=True
                    ):
                        row = (path, info.classes[i], f"{p:.6f}")
                        table.writerow(dict(zip(COLUMNS, row, strict=True)))
                    rows += len(batch)
                if progress:
                    progress(_STAGE, min(start + batch_size, len(paths)), len(paths))

    write_with(output, write)
    return PredictionReport(rows, unreadable, output)


def decoder_of(info: ModelInfo) -> Callable[[str], npt.NDArray[np.uint8]]:
    """Reads a file as the images that a model was trained on were read: (S, S, C) uint8."""
    from ..data.decode import decode
    from ..data.levels import Levels

    return partial(
        decode,
        size=info.image_size,
        channels=info.in_channels,
        resize=info.resize,
        levels=Levels(info.grey_range, info.float_range),
    )


def find_images(images: Sequence[str]) -> list[str]:
    """The files that files, folders and patterns name, in the order given.

    See :func:`predict` for what each gives.

    Raises:
        InputError: one of them gives no image, or nothing is given.
    """
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    asked = [os.fspath(item) for item in images]
    if not asked:
        raise InputError("No images given. Give files, folders or patterns such as 'in/*.png'.")
    return [path for item in asked for path in _images_of(item)]


def _images_of(item: str) -> list[str]:
    path = Path(item)
    if item and path.is_dir():
        found = sorted(_inside(item), key=lambda name: PurePath(name).parts)
        if not found:
            raise InputError(f"The folder {item} contains no images, at any depth.")
        return found
    if item and os.path.lexists(item):
        return [item]
    if not glob.has_magic(item):
        what = f"{item} does not exist" if item else "A name is empty"
        raise InputError(f"{what}. Give a file, a folder or a pattern.")
    # pathlib's own glob cannot take an absolute pattern.
    matched = sorted(
        glob.glob(item, recursive=True),  # noqa: PTH207
        key=lambda name: PurePath(name).parts,
    )
    found = [name for name in matched if not Path(name).is_dir() and _claims_image(name)]
    if not found and matched:
        raise InputError(
            f"The pattern {item} matches no images, only files and folders such as {matched[0]}. "
            "Give a folder to predict all images inside it."
        )
    if not found:
        raise InputError(f"The pattern {item} matches nothing.")
    return found


def _inside(folder: str) -> Iterator[str]:
    """Images at any depth. Links to folders are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise InputError(
            f"The folder {error.filename} cannot be read: {error.strerror}."
        ) from error

    for above, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(above).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = os.path.join(above, name)  # noqa: PTH118 - the path as it was given
            if not name.startswith(".") and _claims_image(path):
                yield path


def _claims_image(path: str) -> bool:
    from ..data.decode import claims_image

    return claims_image(path)


def _check_output(output: Path, paths: Sequence[str]) -> None:
    """Fail before any work if the file cannot be written, or would replace an image."""
    if output.is_dir():
        raise InputError(f"{output} is a folder. Name a CSV file to write.")
    if output.exists() and any(Path(path).exists() and output.samefile(path) for path in paths):
        raise InputError(f"{output} is one of the images. Name another file to write.")
