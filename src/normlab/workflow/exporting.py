"""Exporting a trained model as an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..destinations import check_file
from ..errors import InputError
from ..runs import is_run, read_record
from .prediction import decoder_of, find_images

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..conversion import ExportReport
    from ..data import DataSet
    from ..models import ModelInfo

PROOF_IMAGES = 64
"""At most this many images are compared."""


def export(
    run: str | Path,
    *,
    onnx: str | Path | None = None,
    images: str | Path | Iterable[str | Path] | None = None,
    trust: bool = False,
) -> ExportReport:
    """Write a run's model as an ONNX file that takes uint8 pixels, checked on real images.

    See ``normlab.conversion.export_onnx`` for the file's input and output and for the check. The
    file's metadata says how an image is resized to a square of pixels (``resize_rule``), and which
    grey values of more than 8 bits are black and white (``grey_range``, ``float_range``).

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``.
        onnx: the file; by default ``model.onnx`` in the run's folder.
        images: images to check it on: files, folders and patterns as in ``predict``. By default
            the test images of the data the run was trained on. At most :data:`PROOF_IMAGES` are
            used.
        trust: as for :func:`normlab.load_model`.

    Raises:
        InputError: no model in ``run`` or one that is not trusted, no images to check the export
            on, a missing package, or an export that ``export_onnx`` refuses.
    """
    from ..conversion import export_onnx
    from ..data.decode import RESIZE_RULES
    from ..models import load_info, load_model

    folder = Path(run)
    model, info = load_model(folder, trust=trust), load_info(folder)
    target = folder / "model.onnx" if onnx is None else onnx
    check_file(target, "--output")
    sample = _own_images(folder, info) if images is None else _given_images(images, info)
    return export_onnx(
        model,
        info,
        target,
        sample.transpose(0, 3, 1, 2),
        notes={
            "resize_rule": RESIZE_RULES[info.resize].format(size=info.image_size),
            **({} if info.grey_range is None else {"grey_range": _ends(info.grey_range)}),
            **({} if info.float_range is None else {"float_range": _ends(info.float_range)}),
        },
    )


def _ends(values: tuple[float, float]) -> str:
    return f"{values[0]:g} to {values[1]:g}"


def _given_images(
    images: str | Path | Iterable[str | Path], info: ModelInfo
) -> npt.NDArray[np.uint8]:
    import numpy as np

    from ..data.decode import BadImageError

    decode = decoder_of(info)
    decoded = []
    for path in find_images(images)[:PROOF_IMAGES]:
        try:
            decoded.append(decode(path))
        except BadImageError as error:
            raise InputError(f"{path} {error}. Give other images.") from error
    return np.stack(decoded)


def _own_images(folder: Path, info: ModelInfo) -> npt.NDArray[np.uint8]:
    """The first test images of the run's own data."""
    data = own_data(folder, info, "Give images to check the export on with --images.")
    return data.splits["test"].images(slice(PROOF_IMAGES))


def own_data(folder: Path, info: ModelInfo, give: str) -> DataSet:
    """The data that a run was trained on.

    Args:
        folder: the run's.
        info: of its model.
        give: what else to do, the end of every message.

    Raises:
        InputError: the folder does not say which data these were, they cannot be loaded, or their
            images have other channels now.
    """
    from ..data import load
    from ..studies import recorded_data

    if not is_run(folder):
        raise InputError(f"{folder} does not say which data it was trained on. {give}")
    try:
        record = read_record(folder)
        asked, seed = record["data"]["config"], int(record.get("config", {}).get("seed", 0))
        config = recorded_data(folder, {**asked, "image_size": info.image_size})
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder} does not say which data it was trained on. {give}") from error
    try:
        data = load(config).of_seed(seed)
    except InputError as error:
        raise InputError(f"The data of the run cannot be loaded: {error} {give}") from error
    if data.channels != info.in_channels:
        raise InputError(
            f"The images of {data.source} now have {data.channels} channels, but the model takes "
            f"{info.in_channels}. {give}"
        )
    return data
