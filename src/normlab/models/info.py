"""What ``model.json`` says about a network, and what of it is possible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..errors import InputError, did_you_mean
from ..foreign import factory_of
from .networks import OURS, build_network, parse_network
from .resnet import ResNet, Shortcut

IMAGE_SIZES = (8, 1024)
"""The smallest and largest side of images: what the network accepts, and what `data` makes."""
LONGEST = 10_000
"""Characters that a name has at most."""
_CLASSES, _CHANNELS = 100_000, 1024
_MEAN, _STD = 1e6, (1e-20, 1e6)
"""Beyond these, pixels are no longer numbers of 32 bits once they are normalized."""

Resize = Literal["crop", "letterbox"]


@dataclass(frozen=True)
class ModelInfo:
    """Everything needed to rebuild a model and prepare an image for it, except the weights.

    Attributes:
        n, classes, norm, shortcut, in_channels: arguments of :class:`ResNet`, ``classes`` as
            names in the order of the logits. ``n`` and ``shortcut`` are of that network alone.
        image_size: side in pixels of the images it was trained on.
        mean, std: per channel on the scale 0 to 1; a pixel enters as (value / 255 - mean) / std.
        resize: how an image becomes a square, ``crop`` or ``letterbox``.
        grey_range: black and white of files whose grey values are whole numbers of more than 8
            bits; None if the model was trained on none.
        float_range: likewise of floating-point grey values.
        model: the network, as :func:`.networks.parse_network` reads it.
    """

    n: int
    classes: tuple[str, ...]
    norm: str
    shortcut: Shortcut
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # Models of before there was a choice: the defaults are what they were trained with.
    resize: Resize = "crop"
    grey_range: tuple[float, float] | None = (0, 65535)
    float_range: tuple[float, float] | None = None
    model: str = OURS

    @property
    def ours(self) -> bool:
        """Whether the network is the one of this package."""
        return parse_network(self.model).ours

    @property
    def factory(self) -> str:
        """The network's name, where its factory is a person's own; otherwise ""."""
        return factory_of(self.model)

    @property
    def said(self) -> str:
        """The network in a few words."""
        return f"{6 * self.n + 2} layers (n = {self.n})" if self.ours else self.model

    def build(self, seed: int | None = None) -> nn.Module:
        """A network of this architecture with fresh weights.

        Raises:
            ValueError: it cannot be made with this normalization.
            InputError: likewise, of a network that is not ours, which may also be missing.
        """
        network = parse_network(self.model)
        classes = len(self.classes)
        if network.ours:
            return ResNet(self.n, classes, self.norm, self.shortcut, self.in_channels, seed=seed)
        if seed is None:
            seed = int(torch.randint(2**62, ()).item())
        return build_network(network, self.norm, classes, self.in_channels, seed)


_DEFAULTS = {f.name: f.default for f in fields(ModelInfo) if f.default is not MISSING}


def checked_info(content: Mapping[str, Any], path: Path) -> ModelInfo:
    """The info, once its values are known to have the right types and to be possible.

    Raises:
        InputError: naming the field of ``path``, what it is and what it must be.
    """
    known = [field.name for field in fields(ModelInfo)]
    for name in content:
        if name not in known:
            raise InputError(
                f"{path} has an unknown field {name!r:.60}{did_you_mean(name[:60], known)}."
            )
    content = {**_DEFAULTS, **content}
    missing = [name for name in known if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}.")

    def must(good: bool, name: str, be: str) -> None:
        if not good:
            raise InputError(f"{path}: {name} must be {be}, got {content[name]!r:.60}.")

    least, most = IMAGE_SIZES
    must(is_whole(content["n"]) and content["n"] >= 1, "n", "a whole number of at least 1")
    classes = content["classes"]
    must(_is_list(classes) and 2 <= len(classes) <= _CLASSES and all(map(is_name, classes)),
         "classes", "a list of at least two names")  # fmt: skip
    must(len(set(classes)) == len(classes), "classes", "different names")
    must(is_name(content["norm"]), "norm", "text")
    must(content["shortcut"] in ("A", "B"), "shortcut", "'A' or 'B'")
    must(is_name(content["model"]), "model", "text")
    try:
        parse_network(content["model"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    channels, size = content["in_channels"], content["image_size"]
    must(
        is_whole(channels) and 1 <= channels <= _CHANNELS,
        "in_channels",
        f"a whole number from 1 to {_CHANNELS}",
    )
    must(
        is_whole(size) and least <= size <= most,
        "image_size",
        f"a whole number from {least} to {most}",
    )
    mean, std = content["mean"], content["std"]
    must(_are_numbers(mean, channels), "mean", f"a list of {channels} numbers")
    must(all(abs(value) <= _MEAN for value in mean), "mean", f"from -{_MEAN:g} to {_MEAN:g}")
    must(
        _are_numbers(std, channels) and min(std) > 0,
        "std",
        f"a list of {channels} numbers above 0",
    )
    must(all(_STD[0] <= value <= _STD[1] for value in std), "std",
         f"from {_STD[0]:g} to {_STD[1]:g}")  # fmt: skip
    must(content["resize"] in get_args(Resize), "resize", "'crop' or 'letterbox'")
    for name in ("grey_range", "float_range"):
        ends = content[name]
        # A range that is next to nothing would turn every value into an infinite one.
        increasing = (
            _is_list(ends) and _are_numbers(ends, 2) and _STD[0] <= ends[1] - ends[0] < math.inf
        )
        must(ends is None or increasing, name, "two increasing numbers or null")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return ModelInfo(**values)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of thousands of digits
        return False


def is_name(value: object) -> bool:
    """Whether a value is text that could be a name."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _are_numbers(value: Any, count: int) -> bool:
    return _is_list(value) and len(value) == count and all(map(is_number, value))
