"""The network of a run, with its initial weights and its sites checked."""

from __future__ import annotations

import torch
from torch import nn

from .. import models
from ..data import DataSet
from ..errors import InputError
from ..models import ModelInfo, ResNet, Site, check_sites, layers_at_every_width
from ..norms import CATALOG
from ..runs import RunConfig


def methods() -> tuple[str, ...]:
    """Names of all methods of the catalogue, in its order."""
    return tuple(CATALOG)


def layers_of(norm: str) -> dict[int, nn.Module]:
    """An arm's layer at every width of the network, the narrowest first.

    Raises:
        InputError: it cannot be made for one of them.
    """
    try:
        return layers_at_every_width(norm)
    except ValueError as error:
        raise InputError(f"Arm {norm}: {error}") from error


def name_of_layer(layer: type) -> str:
    """The arm that a class of a layer is.

    Raises:
        InputError: it is no layer, or other processes cannot import it.
    """
    try:
        return models.name_of_layer(layer)
    except ValueError as error:
        raise InputError(f"arms: {error}") from error


def build(config: RunConfig, data: DataSet) -> tuple[ModelInfo, ResNet, tuple[Site, ...]]:
    """The network of a run with its initial weights, its sites checked.

    Raises:
        InputError: the network cannot be made (groups that do not divide, an unknown layer).
        ValueError: a site does not carry the arm's layer.
    """
    info = ModelInfo(
        n=config.n,
        classes=data.classes,
        norm=config.norm,
        shortcut=config.shortcut,
        in_channels=data.channels,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        resize=data.config.resize,
        grey_range=data.levels.whole,
        float_range=data.levels.real,
    )
    try:
        model = info.build(config.seed)
    except ValueError as error:
        raise InputError(f"Arm {config.norm}: {error}") from error
    found = check_sites(model, config.norm)
    model.to(device=config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return info, model, found
