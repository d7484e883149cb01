"""Predicting the classes of images with a trained model."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ..data.cache import Progress as DataProgress
from ..destinations import check_file
from ..errors import InputError
from ..files import CsvWriter, write_with
from ..options import whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..models import ModelInfo

COLUMNS = ("path", "class", "probability")
_STAGE = "Predicting"
_GIVE = "Give files, folders or patterns such as 'in/*.png'."


@dataclass(frozen=True)
class PredictionReport:
    """What :func:`predict` did.

    Attributes:
        rows: number of rows written, one per image that was predicted.
        unreadable: what has no row to the reason: what names no image, an image that cannot be
            read, or one for which the model's output is not finite.
        output: the CSV file.
    """

    rows: int
    unreadable: Mapping[str, str]
    output: Path


def predict(
    run: str | Path,
    images: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    probabilities: bool = False,
    device: str = "cpu",
    batch_size: int = 64,
    trust: bool = False,
    progress: DataProgress | None = None,
) -> PredictionReport:
    """Write the predicted class of each image and its probability.

    Images are decoded, made square and normalized as those the model was trained on. The
    model is in evaluation mode and computes in float32, even if it was trained in bfloat16. The
    CSV file has one row per image, in the order given: ``path`` as given or found, ``class`` by
    name, ``probability`` = max of softmax(logits), 6 decimals. It is written completely or not at
    all.

    What gives no image, an image that cannot be read, and an image for which the model's output is
    not finite have no row, and are named in ``unreadable``. The others are predicted all the same.
    If no image can be read, the file only has a header.

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``.
        images: files, folders and patterns. A folder gives the images at any depth inside it,
            sorted, without hidden ones; also those in folders such as ``masks``, which the reader
            of class folders passes over, since a class may be called so. An image is what says so
            by its extension or by how its content begins; one of a format that is not read (HEIC)
            is listed as unreadable. A pattern (``*``, ``?``, ``[...]``, ``**`` for any depth) gives
            the images it matches, sorted. A file named twice gives two rows.
        output: the CSV file, or a stream such as ``/dev/stdout``.
        probabilities: add a column ``probability of CLASS`` for every class, in the order of the
            model's classes.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        batch_size: images per forward pass, which are in memory at the same time. It does not
            change the classes.
        trust: as for :func:`normlab.load_model`.
        progress: called with a stage, the number of images done and the total.

    Raises:
        InputError: no model in ``run`` or one that is not trusted, nothing in ``images`` that
            gives an image, a model that gives no finite output for any of them, or an output that
            cannot be written. Nothing is written then.
    """
    batch_size = whole("batch_size", batch_size)
    import torch

    from ..data.decode import BadImageError
    from ..models import load_info, load_model, not_finite
    from ..training import resolve_device

    device = resolve_device(device)
    model, info = load_model(run, trust=trust).to(device), load_info(Path(run))
    if info.in_channels not in (1, 3):
        raise InputError(
            f"The model in {run} takes {info.in_channels} channels, but image files have 1 or 3."
        )
    paths, unreadable = _found(images)
    output = Path(output)
    _check_output(output, paths)
    columns = list(COLUMNS)
    if probabilities:
        columns += [f"probability of {name}" for name in info.classes]
    mean, std = (
        torch.tensor(values, dtype=torch.float64).mul(255).float().to(device)
        for values in (info.mean, info.std)
    )
    decode = decoder_of(info)
    rows = strange = 0

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

    def answers(
        batch: Sequence[tuple[str, npt.NDArray[np.uint8]]],
    ) -> Iterator[tuple[str, list[float]]]:
        nonlocal strange
        pixels = torch.stack([torch.from_numpy(image.copy()) for _, image in batch])
        x = pixels.to(device).float().sub_(mean).div_(std).permute(0, 3, 1, 2)
        found = model(x).softmax(1)
        # A logit that is infinite or no number leaves no probability that means anything.
        good = found.isfinite().all(1)
        for (path, _), one, finite in zip(batch, found.tolist(), good.tolist(), strict=True):
            if finite:
                yield path, one
            else:
                strange += 1
                unreadable[path] = "has no prediction: the model's output for it is not finite"

    def write(aside: Path) -> None:
        nonlocal rows
        with aside.open("w", encoding="utf-8", newline="") as opened, torch.inference_mode():
            table = CsvWriter(opened, columns)
            for start in range(0, len(paths), batch_size):
                batch = list(decoded(paths[start : start + batch_size]))
                for path, found in answers(batch) if batch else ():
                    highest = max(found)
                    row = [path, info.classes[found.index(highest)], f"{highest:.6f}"]
                    if probabilities:
                        row += [f"{value:.6f}" for value in found]
                    table.write(dict(zip(columns, row, strict=True)))
                    rows += 1
                if progress:
                    progress(_STAGE, min(start + batch_size, len(paths)), len(paths))
        if strange and not rows:
            raise InputError(
                f"The model in {run} gives no finite output for any image, so nothing was written. "
                f"{not_finite(model) or 'All its weights are finite.'}"
            )

    write_with(output, write)
    return PredictionReport(rows, unreadable, output)


class _NoImagesError(Exception):
    """Something that was named gives no image; ``reason`` continues after the name."""

    def __init__(self, name: str, reason: str, advice: str) -> None:
        super().__init__(f"{name} {reason}. {advice}")
        self.name, self.reason = name, reason


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


def find_images(images: str | Path | Iterable[str | Path]) -> list[str]:
    """The files that files, folders and patterns name, in the order given.

    See :func:`predict` for what each gives.

    Raises:
        InputError: one of them gives no image, or nothing is given.
    """
    try:
        return [path for item in _asked(images) for path in _images_of(item)]
    except _NoImagesError as error:
        raise InputError(str(error)) from error


def _found(images: str | Path | Iterable[str | Path]) -> tuple[list[str], dict[str, str]]:
    """The images, and what was named but gives none, with the reason.

    Raises:
        InputError: nothing that was named gives an image.
    """
    paths: list[str] = []
    unreadable: dict[str, str] = {}
    said: list[str] = []
    for item in _asked(images):
        try:
            paths += _images_of(item)
        except _NoImagesError as error:
            unreadable[error.name] = error.reason
            said.append(str(error))
    if not paths:
        raise InputError("\n".join(said))
    return paths, unreadable


def _asked(images: str | Path | Iterable[str | Path]) -> list[str]:
    given: Iterable[str | Path] = [images] if isinstance(images, (str, os.PathLike)) else images
    try:
        asked = [os.fspath(item) for item in given]
    except TypeError as error:
        raise InputError(f"images must be paths: {error}. {_GIVE}") from error
    if not asked:
        raise InputError(f"No images given. {_GIVE}")
    return asked


def _images_of(item: str) -> list[str]:
    path = Path(item)
    if item and path.is_dir():
        found = sorted(_inside(item), key=lambda name: PurePath(name).parts)
        if not found:
            raise _NoImagesError(item, "is a folder that contains no images, at any depth", _GIVE)
        return found
    if item and os.path.lexists(item):
        return [item]
    if not item:
        raise InputError(f"A name is empty. {_GIVE}")
    if not glob.has_magic(item):
        raise _NoImagesError(item, "does not exist", _GIVE)
    # pathlib's own glob cannot take an absolute pattern.
    matched = sorted(
        glob.glob(item, recursive=True),  # noqa: PTH207
        key=lambda name: PurePath(name).parts,
    )
    found = [name for name in matched if not Path(name).is_dir() and _claims_image(name)]
    if not found and matched:
        raise _NoImagesError(
            item,
            f"is a pattern that matches no images, only files and folders such as {matched[0]}",
            "Give a folder to predict all images inside it.",
        )
    if not found:
        raise _NoImagesError(item, "is a pattern that matches nothing", _GIVE)
    return found


def _inside(folder: str) -> Iterator[str]:
    """Images at any depth. Links to folders are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise _NoImagesError(
            folder,
            f"cannot be read: {error.filename}: {error.strerror}",
            "Give another folder, or make it readable.",
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
    check_file(output, "--output")
    if output.exists() and any(Path(path).exists() and output.samefile(path) for path in paths):
        raise InputError(f"{output} is one of the images. Name another file to write.")
