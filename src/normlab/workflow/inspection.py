"""What a trained model is: its card, the layer at every site, and other parts of its method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError
from ..models import (
    Concern,
    ModelInfo,
    Site,
    check_sites,
    code_of_model,
    command_of,
    concerns,
    has_checksum,
    load_card,
    load_info,
    load_model,
    not_finite,
    other_parts,
)
from ..runs import RunConfig, is_run, read_record
from ..studies import recorded_data
from ..training.command import train_command


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        folder: of the model.
        norm: its normalization.
        network: the network in a few words.
        parameters: how many it has.
        sites: the normalization sites, each with the layer that it carries.
        parts: what else the method put into the network, such as convolutions and activations.
        card: what was saved with the model.
        command: makes the run again. The card's command names the data, which is what can be
            handed on; where the run's own record is with the model, this one says where they are.
        not_finite: names the weights that are not finite; empty if all are.
        checked: whether the bundle has checksums, so that damage to it would have been found.
        concerns: what looks wrong with the normalization, besides weights that are not finite.
    """

    folder: Path
    norm: str
    network: str
    parameters: int
    sites: Sequence[Site]
    parts: Sequence[Site]
    card: Mapping[str, Any]
    command: str
    not_finite: str
    checked: bool
    concerns: Sequence[Concern]


def inspect(run: str | Path, *, trust: bool = False) -> Inspection:
    """Look at a trained model.

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``.
        trust: as for :func:`normlab.load_model`.

    Raises:
        InputError: as :func:`normlab.load_model`, or a site that carries another layer than the
            arm's.
    """
    folder = Path(run)
    model, info = load_model(folder, trust=trust), load_info(folder)
    try:
        with code_of_model(folder):
            found = check_sites(model, info.norm)
            odd = _concerns(model, info)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    parameters = sum(p.numel() for p in model.parameters())
    card = load_card(folder)
    return Inspection(
        folder,
        info.norm,
        info.said,
        parameters,
        found,
        other_parts(model),
        card,
        _command(folder) or command_of(card, info.norm),
        not_finite(model),
        has_checksum(folder),
        [one for one in odd if one.kind != "not finite"],
    )


def _concerns(model: nn.Module, info: ModelInfo) -> tuple[Concern, ...]:
    try:
        return concerns(model, info.image_size, info.in_channels)
    except Exception:  # the code of a network may refuse an image of zeros
        return concerns(model)


def _command(folder: Path) -> str:
    """From the run's record; empty where there is none with the model."""
    if not is_run(folder):
        return ""
    record = read_record(folder)
    asked = (record.get("data") or {}).get("config")
    if not asked:
        return ""
    data = recorded_data(folder, asked)
    return train_command(RunConfig.from_dict(record["config"]), data, data.source)
