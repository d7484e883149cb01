"""The catalogue: one declarative spec per method.

It drives construction (:func:`make_norm`), ``normlab norms``, ``docs/norms.md`` and the
conformance tests. What can be read off a layer (options, defaults, optimizer needs) is read off
the layer and not written here a second time.

A new method is a file in ``methods/`` with its layer and its spec, and a name here; ``make docs``
then prints its entry. If torch.nn does not have the layer, the tests also ask for a reference, see
``tests/norms/reference.py``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch import nn

from .. import foreign
from ..errors import did_you_mean, told
from ..values import plain, read_options
from ._base import Norm2d
from .methods import SPECS
from .places import Parts, Place, options_of
from .spec import NormSpec

MOST_GROUPS = 32
"""Groups that ``groups=auto`` takes at most."""

CATALOG: Mapping[str, NormSpec] = MappingProxyType({spec.name: spec for spec in SPECS})
"""Name to spec, for every method."""


@dataclass(frozen=True)
class NormChoice:
    """A normalization with its options, as written in an arm: ``gn:groups=4``.

    >>> choice = parse_norm("gn:groups=4")
    >>> choice.make(16)
    GroupNorm2d(16, groups=4, eps=1e-05, affine=True)

    Attributes:
        name: a name of the catalogue, or ``package.module:Class`` for a layer of your own, which
            is called as ``Class(channels, **options)``. It is imported when it is first needed,
            and a choice stays with the code that it had then.
        options: keyword arguments of the layer, and of the method's other parts. ``groups=auto``
            stands for a number that depends on the channels, see :meth:`for_width`.
    """

    name: str
    options: Mapping[str, Any]

    def for_width(self, channels: int) -> NormChoice:
        """The choice for this number of channels: with a number in the place of ``groups=auto``.

        That is the largest one up to 32 that divides the channels and leaves two or more of them
        to a group, or 1.

        >>> dict(parse_norm("gn:groups=auto").for_width(72).options)
        {'groups': 24}
        """
        if self.options.get("groups") != "auto" or not isinstance(channels, int):
            return self
        most = min(MOST_GROUPS, channels // 2)
        groups = max((g for g in range(1, most + 1) if channels % g == 0), default=1)
        return NormChoice(self.name, MappingProxyType({**self.options, "groups": groups}))

    @cached_property
    def _layer(self) -> type[nn.Module]:
        return CATALOG[self.name].layer if self.name in CATALOG else _layer_class(self.name)

    @property
    def custom(self) -> bool:
        """Whether the layer is one of your own."""
        return foreign.is_custom(self.name)

    @property
    def conv_bias(self) -> bool:
        """Whether the convolution before it needs a bias. A layer of your own can say so in a
        class attribute ``conv_bias``; the default is False."""
        if self.name in CATALOG:
            return CATALOG[self.name].conv_bias
        return bool(getattr(self._layer, "conv_bias", False))

    @cached_property
    def parts(self) -> Parts:
        """What the method puts into a network besides its layer. A layer of your own can say so in
        a class attribute ``parts``.

        Raises:
            ValueError: that attribute is something else.
        """
        if self.name in CATALOG:
            return CATALOG[self.name].parts
        declared = getattr(self._layer, "parts", None)
        if declared is None or inspect.isfunction(declared) or isinstance(declared, property):
            return Parts()  # a name of the layer's own
        if not isinstance(declared, Parts):
            raise ValueError(
                f"parts of {self.name} must be normlab.norms.Parts, got {declared!r:.80}."
            )
        return declared

    def make(self, channels: int) -> nn.Module:
        """The layer for this number of channels."""
        return _make(self.for_width(plain(channels)), channels)

    def layer(self, place: Place, channels: int) -> nn.Module:
        """What stands after the convolution at this place."""
        other = self.parts.layer(place)
        return self.make(channels) if other is None else self.make_part(other, channels)

    def activation(self, place: Place, channels: int) -> nn.Module:
        """The activation of this place, ReLU for most methods."""
        return self.make_part(self.parts.activation(place), channels)

    def after_sum(self, place: Place, channels: int) -> nn.Module | None:
        """What stands between the sum at the end of a block and the activation, if anything."""
        made = self.parts.after_sum(place)
        return None if made is None else self.make_part(made, channels)

    def convolution(
        self, channels_in: int, channels: int, kernel_size: int, stride: int = 1
    ) -> nn.Conv2d:
        """The method's convolution, with a padding that keeps the size at stride 1."""
        padding = kernel_size // 2
        return self._convolution(
            channels_in, channels, kernel_size, stride, padding, bias=self.conv_bias
        )

    def convolution_like(self, other: nn.Conv2d) -> nn.Conv2d:
        """The method's convolution in the place of another one. It has no memory of its own."""
        return self._convolution(
            other.in_channels,
            other.out_channels,
            other.kernel_size,
            other.stride,
            other.padding,
            other.dilation,
            other.groups,
            self.conv_bias,
            other.padding_mode,
            device="meta",
        )

    def _convolution(self, *shape: Any, **named: Any) -> nn.Conv2d:
        made: Callable[..., nn.Conv2d] = self.parts.convolution
        return made(*shape, **named, **self._options_for(self.parts.convolution))

    def make_part(self, part: type[nn.Module], channels: int) -> nn.Module:
        """One of the classes in :attr:`parts`, with the method's options that it takes."""
        if part in (nn.ReLU, nn.Identity):
            return part()
        return part(channels, **self.for_width(plain(channels))._options_for(part))

    def check_parts(self, channels: int) -> None:
        """Make each part once, to find out whether it can be made.

        Raises:
            ValueError: with what the part said.
        """
        parts = self.parts
        for part in parts.classes():
            try:
                if part is not parts.convolution:
                    self.make_part(part, channels)
                elif part is not nn.Conv2d:
                    self._convolution(channels, channels, 3, bias=self.conv_bias, device="meta")
            except Exception as error:
                raise ValueError(
                    f"{part.__name__} of {self.name} could not be made for {channels} channels: "
                    f"{told(error)}."
                ) from error

    def _options_for(self, part: type[nn.Module]) -> dict[str, Any]:
        known = options_of(part)
        return {name: value for name, value in self.options.items() if name in known}


def parse_norm(text: str) -> NormChoice:
    """Read ``name``, ``name:option=value:option=value`` or ``package.module:Class:option=value``.

    Values are whole numbers, numbers, true, false or none; anything else stays text.

    >>> choice = parse_norm("bn:momentum=none:eps=1e-3")
    >>> choice.name, dict(choice.options)
    ('bn', {'momentum': None, 'eps': 0.001})

    Raises:
        ValueError: an option that is not written as ``option=value``, or is given twice.
    """
    head, *rest = text.split(":")
    a_module = head not in CATALOG and all(part.isidentifier() for part in head.split("."))
    if rest and a_module and rest[0].isidentifier():
        head, rest = f"{head}:{rest[0]}", rest[1:]
    options = read_options(
        rest, f"the normalization {text!r}", "name:option=value, for example gn:groups=4"
    )
    return NormChoice(head, MappingProxyType(options))


def make_norm(name: str | type[nn.Module], channels: int, **options: Any) -> nn.Module:
    """Make a normalization layer: what the method has after a convolution.

    What else a method puts into a network (``CATALOG[name].parts``) is not part of the layer. That
    of ``ws`` and ``weight_norm`` is the identity, because they act on the convolution; that of
    ``ibn_b`` is the one of ``bn``, of ``gn+ws`` the one of ``gn``, of ``frn_tlu`` that of ``frn``.

    >>> make_norm("gn", 16, groups=4)
    GroupNorm2d(16, groups=4, eps=1e-05, affine=True)
    >>> make_norm("gn:groups=4", 16)
    GroupNorm2d(16, groups=4, eps=1e-05, affine=True)

    Args:
        name: a name of :data:`CATALOG` (options may follow, as in ``"gn:groups=4"``), or
            ``"package.module:Class"`` for a layer of your own, or that class.
        channels: number of channels it will see.
        options: keyword arguments of the layer.

    Raises:
        ValueError: an unknown name or option (the known ones are listed), or a value that the
            layer, or another part of the method, refuses.
    """
    if isinstance(name, type):
        name = name_of_layer(name)
    written = parse_norm(name)
    choice = NormChoice(written.name, {**written.options, **options})
    made = choice.make(channels)
    if choice.options and choice.name in CATALOG and not choice.parts.plain:
        choice.check_parts(plain(channels))  # options that the layer does not take
    return made


def _make(choice: NormChoice, channels: int) -> nn.Module:
    name, layer, channels = choice.name, choice._layer, plain(channels)
    options = {key: plain(value) for key, value in choice.options.items()}
    own = options_of(layer)
    known = own if choice.parts.plain else {**own, **choice.parts.options()}
    for option, value in options.items():
        if option not in known and not _takes_any_option(layer):
            raise ValueError(
                f"{name} has no option {option!r}{did_you_mean(option, known)}. "
                + (f"Its options are {', '.join(known)}." if known else "It has none.")
            )
        # Text such as "no" would count as true.
        if name in CATALOG and isinstance(known[option], bool) and not isinstance(value, bool):
            raise ValueError(f"{option} of {name} must be true or false, got {value!r}.")
        if name in CATALOG and isinstance(known[option], float) and not issubclass(layer, Norm2d):
            _check_number(name, option, value)
    if not _takes_any_option(layer):
        options = {key: value for key, value in options.items() if key in own}
    if foreign.is_custom(name):
        return _made(name, layer, channels, options)
    try:
        return layer(channels, **options)
    except TypeError as error:
        raise ValueError(f"{name} could not be made: {error}") from error


def _check_number(name: str, option: str, value: object) -> None:
    """PyTorch's own layer takes anything, and fails when it is used."""
    if value is None and option == "momentum":
        return
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (good and 0 <= value <= sys.float_info.max):  # type: ignore[operator]
        raise ValueError(f"{option} of {name} must be a number of at least 0, got {value!r:.60}.")


def name_of_layer(layer: type) -> str:
    """The name by which a class is an arm.

    >>> from normlab.norms import GroupNorm2d
    >>> name_of_layer(GroupNorm2d), name_of_layer(nn.BatchNorm2d)
    ('gn', 'torch_bn')

    Raises:
        ValueError: not a layer, or one that other processes cannot import by a name.
    """
    for spec in CATALOG.values():
        if layer is spec.layer and spec.parts.plain:
            return spec.name
    if not issubclass(layer, nn.Module):
        raise ValueError(f"{layer!r} must be a subclass of torch.nn.Module.")
    name = f"{layer.__module__}:{layer.__qualname__}"
    if not foreign.is_foreign(name):
        raise ValueError(
            f"the class {layer.__qualname__} is defined inside a function or another class. "
            "Define it at the top level of its module, where it can be imported."
        )
    _check_importable(layer.__module__, layer.__qualname__)
    return name


def _check_importable(module: str, class_name: str) -> None:
    if module == "__main__":
        raise ValueError(
            f"the class {class_name} is defined in __main__ (a cell of a notebook, or the script "
            "that was started), which the processes that make runs cannot import. Put it into a "
            f"file next to it, for example layers.py, and name the arm layers:{class_name}."
        )


_NOT_CHANNELS = frozenset(
    {"size", "kernel_size", "groups", "num_groups", "eps", "momentum", "affine", "p", "inplace"}
)
"""Names of a first argument that is something else, such as that of torch.nn.LocalResponseNorm."""


def _made(
    name: str, layer: type[nn.Module], channels: int, options: Mapping[str, Any]
) -> nn.Module:
    """A layer of a person's own, whose constructor may do anything."""
    first = next(iter(inspect.signature(layer).parameters.values()), None)
    if first is not None and (
        isinstance(first.default, (bool, float)) or first.name in _NOT_CHANNELS
    ):
        raise ValueError(
            f"the first argument of {name} is {first.name}, so it would take the number of "
            f"channels for its {first.name}. Make the channels the first argument: "
            "Class(channels, **options)."
        )
    try:
        made = layer(channels, **options)
    except Exception as error:
        raise ValueError(
            f"{name} could not be made for {channels} channels: {told(error)}. It is called as "
            "Class(channels, **options)."
        ) from error
    if getattr(made, "_parameters", None) is None:
        raise ValueError(
            f"{name} does not call super().__init__(), which a torch.nn.Module must do first."
        )
    return made


def _takes_any_option(layer: type[nn.Module]) -> bool:
    """Whether the constructor has ``**options``, as a layer of your own may."""
    return any(p.kind == p.VAR_KEYWORD for p in inspect.signature(layer).parameters.values())


def _layer_of_ours(module: str, class_name: str, arm: str) -> type[nn.Module]:
    """A layer of the catalogue by the name of its class. No other module of this package is
    imported for an arm, since importing some has effects."""
    known = {spec.layer.__name__: spec.layer for spec in SPECS if issubclass(spec.layer, Norm2d)}
    if class_name not in known or module not in (__package__, known[class_name].__module__):
        raise ValueError(
            f"{module!r} has no layer {class_name!r}, which the arm {arm!r} names. Known are "
            f"{', '.join(CATALOG)}."
        )
    return known[class_name]


def _layer_class(name: str) -> type[nn.Module]:
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise ValueError(
            f"unknown normalization {name!r}{did_you_mean(name, CATALOG)}. Known are "
            f"{', '.join(CATALOG)}, or package.module:Class for a layer of your own."
        )
    _check_importable(module_name, class_name)
    if foreign.is_ours(module_name):
        return _layer_of_ours(module_name, class_name, name)
    try:
        module = foreign.load(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"cannot import {module_name!r} for the arm {name!r}: {told(error)}."
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ValueError(f"{module_name!r} has no {class_name!r}, which the arm {name!r} names.")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"{class_name!r} in {module_name!r} must be a subclass of torch.nn.Module, "
            f"got {found!r}."
        )
    return found
