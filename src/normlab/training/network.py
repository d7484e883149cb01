"""The network of a run, with its initial weights and its sites checked."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..data import DataSet, DeviceSplit
from ..errors import InputError, told
from ..models import (
    AS_IS,
    OURS,
    Loaded,
    ModelInfo,
    ResNet,
    Site,
    check_method,
    check_sites,
    classifier_of,
    completed,
    drawn_by,
    generators_kept,
    in_evaluation,
    is_placeless,
    layers_at_every_width,
    make_layer,
    parse_network,
    sites,
    start_from,
    takes_contiguous,
)
from ..norms import CATALOG
from ..pages.words import listed
from ..runs import RunConfig
from .frozen_parts import freeze

STRIDE = {16: 1, 32: 2, 64: 4}
"""Width of our network's maps to the share of the image's side that they have."""
WIDTH = 16
"""Channels of :func:`layer_at_a_site`."""
MATCHED_IMAGES = 512
"""Training images that layers are matched on at most."""
_TRIED = 2
"""Images that a network is tried with."""
_ALIKE = 1e-3
"""Largest difference between two memory formats that is rounding, as a share of the largest
logit."""


@dataclass(frozen=True)
class Built:
    """The network of a run.

    Attributes:
        info: its description, which rebuilds it.
        model: it, on the run's device.
        sites: its normalization sites, each with the arm's layer.
        classifier: path of the layer that gives the logits; "" where none was found.
        contiguous: whether the network computes the same only in contiguous memory.
        notes: what a person should know, as sentences.
        loaded: what was loaded of the weights that it starts from, if it does.
        original: the network with these weights in its own normalization, on the run's device.
        original_norm: that normalization.
        how: what the layers of a converted network start from: ``exact`` where they compute the
            same, else one of :data:`normlab.runs.config.Start`; "" where none was converted.
    """

    info: ModelInfo
    model: nn.Module
    sites: tuple[Site, ...]
    classifier: str
    contiguous: bool = False
    notes: tuple[str, ...] = ()
    loaded: Loaded | None = None
    original: nn.Module | None = None
    original_norm: str = ""
    how: str = ""


def methods(*, everywhere: bool = False, from_weights: bool = False) -> tuple[str, ...]:
    """Names of all methods of the catalogue, in its order; or of those that can stand in networks
    that are not ours, or to which any trained network can be converted."""
    from ..conversion import can_be_matched

    return tuple(
        name
        for name, spec in CATALOG.items()
        if (not everywhere or is_placeless(spec.parts))
        and (not from_weights or (spec.parts.plain and can_be_matched(name)))
    )


def check_arm(norm: str, model: str) -> None:
    """Whether an arm can be made in a network, as far as can be told without the data.

    Raises:
        InputError: no.
    """
    if not parse_network(model).ours:
        check_method(norm)
    elif norm != AS_IS:
        layers_of(norm)


def layers_of(norm: str) -> dict[int, nn.Module]:
    """An arm's layer at every width of our network, the narrowest first.

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


def build(config: RunConfig, data: DataSet) -> Built:
    """The network of a run, its sites checked. Where the run starts from trained weights, these are
    not loaded, unless it is they that say which layers there are.

    Raises:
        InputError: the network cannot be made (groups that do not divide, an unknown layer), or
            does not take the images.
        ValueError: a site does not carry the arm's layer.
    """
    info = _info(config, data)
    if config.norm == AS_IS and config.weights is not None:
        return started(config, data)
    return _placed(config, data, info, _made(config, info))


def started(config: RunConfig, data: DataSet, *, tried: bool = False) -> Built:
    """The network of a run with the weights that it starts from, if it does. Where this is only
    ``tried``, layers are matched on a few images and not distilled.

    Raises:
        InputError: as :func:`build`; weights that cannot be loaded, or layers that cannot be
            converted.
        ValueError: a site does not carry the arm's layer.
    """
    weights = config.weights_file
    if weights is None:
        return build(config, data)
    info = _info(config, data)
    original, norm, loaded = start_from(weights, info, config.weights_least, config.seed)
    converted = config.norm not in (AS_IS, norm)
    # What is frozen is so once layers are converted, or distillation could not set them.
    plain = replace(config, freeze_to=None) if converted else config
    kept = _placed(plain, data, replace(info, norm=norm), original)
    made, how = kept, ""
    if converted:
        model, how = _converted(config, data, kept.model, tried=tried)
        made = _placed(config, data, info, model)
    return replace(
        made,
        how=how,
        loaded=loaded,
        original=kept.model,
        original_norm=norm,
        notes=(*loaded.sentences, *made.notes),
    )


def check_factory(config: RunConfig, data: DataSet) -> None:
    """Whether the factory of a network that is not ours makes the same network each time, and
    another object: arms are to share all other weights, and no memory.

    Raises:
        InputError: it does not.
    """
    choice = parse_network(config.model)
    if choice.ours:
        return
    pair = [choice.make(len(data.classes), data.channels, config.seed) for _ in range(2)]
    first, second = (one.state_dict() for one in pair)
    if {id(t) for t in _tensors(pair[0])} & {id(t) for t in _tensors(pair[1])}:
        raise InputError(
            f"The factory {config.model} returns a network, or a part of one, that it has returned "
            "before, so runs would train one network. Make it anew in each call."
        )
    other = [n for n, t in first.items() if n not in second or not torch.equal(t, second[n])]
    if other:
        raise InputError(
            f"The factory {config.model} makes another network each time ({listed(other[:3])}), so "
            "arms would differ in more than their layers. Draw from torch's global generator, "
            "which every run seeds."
        )


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _info(config: RunConfig, data: DataSet) -> ModelInfo:
    return ModelInfo(
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
        model=config.model,
    )


def _made(config: RunConfig, info: ModelInfo) -> nn.Module:
    try:
        return info.build(config.seed)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"Arm {config.norm}: {error}") from error


def _converted(
    config: RunConfig, data: DataSet, original: nn.Module, *, tried: bool
) -> tuple[nn.Module, str]:
    """The network with the arm's layers in the place of those that it was trained with, and where
    these start from: ``exact``, or a start that approximates."""
    from ..conversion import convert  # here, since most runs do not start from weights

    try:
        check_sites(original, config.norm)
        return original, "exact"
    except ValueError:
        pass
    split = DeviceSplit(data, "train", config.device)
    count, how = MATCHED_IMAGES, config.start
    if tried:
        count, how = _TRIED, "matched" if config.start.startswith("distilled") else config.start
    rows = np.unique(np.linspace(0, len(split) - 1, count).round().astype(int))
    images, _ = split.batch(rows.tolist())
    with drawn_by(config.seed, "conversion"):
        try:
            made = convert(original, config.norm, images, how=how, keep_eps=False)
        except InputError as error:
            said = re.sub(r"how='(\w+)'", r"--start \1", str(error))
            raise InputError(f"Arm {config.norm}, from trained weights: {said}") from error
    return completed(made.model, config.norm), "exact" if made.exact else made.how


def _placed(config: RunConfig, data: DataSet, info: ModelInfo, model: nn.Module) -> Built:
    """The network on the run's device, in the memory format that it works in."""
    found = check_sites(model, info.norm)
    model.to(device=config.device)
    contiguous = not isinstance(model, ResNet) and not _is_alike_in_channels_last(
        config, data, info, model
    )
    in_format(model, contiguous=contiguous)
    notes: tuple[str, ...] = (
        (
            f"{info.model} gets contiguous images, since it does not compute the same in "
            "channels_last. This takes longer.",
        )
        if contiguous
        else ()
    )
    if config.freeze_to is not None:
        freeze(model, config.freeze_to)
    if fixed := sum(not parameter.requires_grad for parameter in model.parameters()):
        whose = "" if config.freeze_to else ", as its factory made them"
        notes += (
            f"{fixed} of {sum(1 for _ in model.parameters())} parameters of {info.model} are not "
            f"trained{whose}: they keep the values that they start with.",
        )
    classifier = classifier_of(model, len(data.classes))
    for name in ("head_lr", "record_features"):
        if getattr(config, name) and not classifier:
            raise InputError(
                f"{name} needs a linear classifier, and the network {config.model} has none with "
                "as many outputs as there are classes."
            )
    return Built(info, model, found, classifier, contiguous, notes)


def in_format(model: nn.Module, *, contiguous: bool) -> None:
    """Let a network compute in channels_last, or in contiguous memory whatever its images are."""
    if contiguous:
        takes_contiguous(model)
    else:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _is_alike_in_channels_last(
    config: RunConfig, data: DataSet, info: ModelInfo, model: nn.Module
) -> bool:
    """Put images through a network that is not ours, in both memory formats."""
    generator = torch.Generator().manual_seed(0)
    side = data.image_size
    x = torch.randn(_TRIED, data.channels, side, side, generator=generator).to(config.device)
    with in_evaluation(model), torch.no_grad():
        try:
            plain = model(x)
        except Exception as error:  # the code of a network may do anything
            raise InputError(
                f"The network {info.model} cannot take images of {data.channels} channels and "
                f"{side}x{side} pixels: {told(error)}. Another size is given with --image-size."
            ) from error
        _check_logits(plain, info, "")
        with generators_kept():  # dropout draws
            try:
                trained = copy.deepcopy(model).train()(x)
            except Exception as error:
                raise InputError(
                    f"The network {info.model} cannot be trained on images of {data.channels} "
                    f"channels and {side}x{side} pixels: {told(error)}."
                ) from error
        _check_logits(trained, info, " in training")
        trial = copy.deepcopy(model)
        in_format(trial, contiguous=False)
        try:
            last = trial(x.contiguous(memory_format=torch.channels_last))
        except Exception:  # such as a view of maps as rows
            return False
    return bool((plain - last).abs().max() <= _ALIKE * plain.abs().max().clamp_min(1e-6))


def _check_logits(found: object, info: ModelInfo, when: str) -> None:
    wanted = (_TRIED, len(info.classes))
    if isinstance(found, Tensor) and found.shape == wanted:
        return
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise InputError(
        f"The network {info.model} must give logits of shape {wanted} for {_TRIED} images{when}, "
        f"got {got}. It is told the number of classes as classes or num_classes. Auxiliary outputs "
        "must be switched off, by an option of the factory or in a factory of your own."
    )


def shapes_at_sites(config: RunConfig, data: DataSet) -> Mapping[int, tuple[int, int]]:
    """Channels of the maps at normalization sites to their height and width, the largest where
    several have as many channels."""
    if config.model == OURS:
        sides = {width: -(-data.image_size // stride) for width, stride in STRIDE.items()}
        return {width: (side, side) for width, side in sides.items()}
    model = _made(config, replace(_info(config, data), norm=AS_IS))
    found: dict[int, tuple[int, int]] = {}

    def see(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() == 4:
            channels, height, width = inputs[0].shape[1:]
            found[channels] = max(found.get(channels, (0, 0)), (height, width))

    for site in sites(model):
        model.get_submodule(site.name).register_forward_pre_hook(see)
    side = data.image_size
    with torch.no_grad():
        model.eval()(torch.zeros(1, data.channels, side, side))
    return dict(sorted(found.items()))


def layer_at_a_site(config: RunConfig) -> nn.Module:
    """The arm's layer for 16 channels, to ask what kind it is; of a network that is left as it is,
    the identity."""
    if config.norm == AS_IS:
        return nn.Identity()
    with drawn_by(0, "made"):
        return make_layer(config.norm, WIDTH)
