"""Another normalization for the model of a run."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..destinations import check_folder
from ..errors import InputError
from .exporting import own_data

if TYPE_CHECKING:
    from torch import Tensor

    from ..conversion import Conversion
    from ..conversion.converting import How
    from ..data import Split
    from ..models import ModelInfo

MATCHED_IMAGES = 512
"""At most this many images are matched or distilled on."""


def convert_run(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    data: str | None = None,
    how: How = "distilled",
    trust: bool = False,
) -> Conversion:
    """Write a run's model with another normalization, as a model that ``predict``, ``inspect``,
    ``export`` (with images) and ``explain`` (with data) read.

    See :func:`normlab.convert` for what is exact and where the rest comes from. Images are at most
    :data:`MATCHED_IMAGES` training images of the data, spread evenly over all. The card keeps
    what is known of the data and says how the model was made. It has no accuracy, which is another
    one now.

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``.
        to: the method, as an arm is written.
        out: the folder of the new model, which must not have one yet.
        data: a source of images in place of the data that the run was trained on.
        how: ``distilled``, ``distilled_all``, ``matched``, ``copied`` or ``fresh``.
        trust: as for :func:`normlab.load_model`.

    Raises:
        InputError: as :func:`normlab.convert`; no model in ``run`` or one that is not trusted; data
            that cannot be loaded or have other channels; a result that is not the network that the
            method makes, and so cannot be loaded by its name; a layer that is not of this package;
            a folder that has a model already or cannot be written. Nothing is written then.
    """
    from ..conversion import convert
    from ..foreign import code_of, is_custom
    from ..models import (
        check_sites,
        code_of_model,
        completed,
        load_card,
        load_info,
        load_model,
        save_model,
    )
    from ..norms import parse_norm
    from ..runs import MODEL, WEIGHTS, is_run, is_study
    from ..seals import digest

    folder, target = Path(run), Path(out)
    check_folder(target, "--out")
    for name in (MODEL, WEIGHTS):
        if (target / name).exists():
            raise InputError(f"{target} has a {name} already. Choose another folder with --out.")
    if is_study(target) or is_run(target):
        raise InputError(f"{target} is a study or a run. Choose another folder with --out.")
    try:
        custom = is_custom(parse_norm(to).name)
    except ValueError as error:
        raise InputError(f"Cannot convert to {to!r}: {str(error).rstrip('.')}.") from error
    if custom:
        raise InputError(
            f"{to} is not part of normlab, so a saved model of it needs a run that says what its "
            "code was. Use normlab.convert in Python."
        )
    model, info = load_model(folder, trust=trust), load_info(folder)
    images: Split | None = None
    if data is not None:
        images = _given(data, info)
    elif is_run(folder):
        images = own_data(folder, info, "Give a source of images with --data.").splits["train"]
    try:
        x = None if images is None else _entering(images, info)
        made = convert(model, to, x, how=how, keep_eps=False)
    except InputError as error:
        said = str(error).replace("Give images to", "Give images with --data to")
        raise InputError(re.sub(r"how='(\w+)'", r"--how \1", said)) from error
    completed(made.model, to)
    try:
        with code_of_model(folder):
            sites = check_sites(made.model, to)
    except ValueError as error:
        raise InputError(
            f"The model in {folder} cannot be saved as one of {to}: {str(error).rstrip('.')}. "
            "Name the options that it has, or use normlab.convert in Python."
        ) from error
    described, weights = replace(info, norm=to), digest((folder / WEIGHTS).read_bytes())
    with code_of_model(folder):
        if described.build(seed=0).state_dict().keys() != made.model.state_dict().keys():
            raise InputError(
                f"The model in {folder} cannot be saved as one of {to}: the converted network has "
                "other tensors than the one that the arm makes. Use normlab.convert in Python."
            )
    card = load_card(folder)
    names = ("seed", "layers", "network", "network_origin", "data")
    kept: dict[str, Any] = {name: card[name] for name in names if name in card}
    with code_of_model(folder):
        if code := code_of(info.factory):
            kept["code"] = code
    save_model(
        target,
        described,
        made.model.state_dict(),
        {
            "arm": to,
            **kept,
            "parameters": sum(parameter.numel() for parameter in made.model.parameters()),
            "sites": [asdict(site) for site in sites],
            "converted": {"from": info.norm, "how": "exact" if made.exact else made.how},
            "changes": [
                *card.get("changes", ()),
                f"Converted from {info.norm} to {to}. {made.summary}",
                f"Made of the model {info.norm} with weights of SHA-256 {weights}.",
            ],
        },
    )
    return made


def _entering(images: Split, info: ModelInfo) -> Tensor:
    """At most :data:`MATCHED_IMAGES` images as they enter the network, spread evenly: images of one
    class often stand together."""
    import numpy as np
    import torch

    rows = np.unique(np.linspace(0, len(images) - 1, MATCHED_IMAGES).round())
    pixels = images.images(rows)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).mul(255).float()
        for values in (info.mean, info.std)
    )
    return torch.from_numpy(pixels).float().sub(mean).div(std).permute(0, 3, 1, 2).contiguous()


def _given(source: str, info: ModelInfo) -> Split:
    from ..data import DataConfig, load

    data = load(DataConfig(source, image_size=info.image_size, resize=info.resize))
    if data.channels != info.in_channels:
        raise InputError(
            f"The images of {source} have {data.channels} channels, but the model takes "
            f"{info.in_channels}. Give other images with --data."
        )
    return data.splits["train"]
