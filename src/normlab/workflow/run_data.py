"""The images that a run was made with, for whoever has its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data.cache import Progress
from ..errors import InputError
from ..runs import is_run, read_record

if TYPE_CHECKING:
    from ..data import DataSet
    from ..models import ModelInfo


def own_data(folder: Path, info: ModelInfo, give: str, progress: Progress | None = None) -> DataSet:
    """A run's own data, with its splits.

    Args:
        folder: of the run.
        info: of its model.
        give: what to do where they cannot be had, a sentence.
        progress: is told about reading them.

    Raises:
        InputError: the folder does not say which data, they are gone, or do not fit the model.
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
        data = load(config, progress=progress).of_seed(seed)
    except InputError as error:
        raise InputError(f"The data of the run cannot be loaded: {error} {give}") from error
    if data.channels != info.in_channels:
        raise InputError(
            f"The images of {data.source} now have {data.channels} channels, but the model takes "
            f"{info.in_channels}. {give}"
        )
    return data
