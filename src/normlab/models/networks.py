"""Networks by name: ours, a person's own, and those of libraries; with an arm's layer in each.

A network that is not ours is made by its factory as it is. Then every normalization layer of
images in it is exchanged. Everything else is the same for all arms of a seed, since the factory
draws from generators that the seed alone determines.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .. import foreign
from ..errors import InputError, did_you_mean, told
from ..norms import CATALOG, NormChoice, parse_norm
from ..norms.places import DrawnConvolution, Parts
from ..runs import AS_IS, OUR_NETWORK
from ..values import read_options
from .custom import make_layer
from .drawing import drawn_by, generators_kept
from .exchange import carry_over, exchanged, like, norm_layers, split_fused
from .sites import declared

OURS = OUR_NETWORK
"""The name of :class:`.resnet.ResNet`."""
_WIDE = 64
"""Channels that a method is tried with before the network's are known."""
_OF_WEIGHTS = ("weights", "weights_backbone", "checkpoint_path", "cache_dir", "url")
"""Options of libraries that read trained weights, besides those that begin with ``pretrained``."""
_CLASSES = ("classes", "num_classes", "n_classes")
_CHANNELS = ("in_channels", "in_chans", "channels")


@dataclass(frozen=True)
class NetworkChoice:
    """A network with its options, as written: ``timm:resnet18:drop_rate=0.1``.

    Attributes:
        name: :data:`OURS`, ``package.module:factory``, ``timm:NAME`` or ``torchvision:NAME``.
        options: keyword arguments of the factory.
    """

    name: str
    options: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether it is the network of this package."""
        return bool(self.name == OURS)

    def make(self, classes: int, channels: int, seed: int) -> nn.Module:
        """The network as its factory makes it, for so many classes and channels of images. What the
        factory draws from the global generators depends on the seed alone.

        Raises:
            InputError: it cannot be imported or made, or is no module.
        """
        # Apart from what the factory draws: a module that draws when it is imported does so once.
        with generators_kept():
            factory, named = _factory(self.name)
        with drawn_by(seed, "network"):
            try:
                made = factory(**named(classes, channels), **self.options)
            except InputError:
                raise
            except (Exception, SystemExit) as error:
                raise InputError(
                    f"The network {self.name} could not be made for {classes} classes and "
                    f"{channels} channels: {told(error)}."
                ) from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"{self.name} must return a torch.nn.Module, got {type(made).__name__}."
            )
        return made


def parse_network(text: str) -> NetworkChoice:
    """Read ``resnet6n2``, ``package.module:factory``, ``timm:NAME`` or ``torchvision:NAME``, each
    with options after colons.

    >>> parse_network("mine.networks:build:width=32")
    NetworkChoice(name='mine.networks:build', options=mappingproxy({'width': 32}))

    Raises:
        InputError: text of another form.
    """
    head, *rest = text.split(":")
    if head != OURS:
        if not rest or not foreign.is_foreign(f"{head}:x") or not rest[0]:
            raise InputError(
                f"model is {text!r}{did_you_mean(text, (OURS,))}. Give {OURS}, "
                "package.module:factory, or a network of a library, such as timm:resnet18 or "
                "torchvision:resnet18."
            )
        head, rest = f"{head}:{rest[0]}", rest[1:]
    try:
        options = read_options(rest, f"the model {text!r}", "package.module:factory:option=value")
    except ValueError as error:
        said = str(error)
        raise InputError(f"{said[0].upper()}{said[1:]}") from error
    if wrong := next((name for name in options if not name.isidentifier()), ""):
        raise InputError(f"{wrong!r} in the model {text!r} is no name of an option.")
    if head == OURS and options:
        raise InputError(
            f"{OURS} takes no options here. Its depth is --n, and its shortcut is --shortcut."
        )
    if library := foreign.library_of(head):
        _check_options(library, options)
    if not foreign.library_of(head) and head != OURS and not foreign.is_foreign(head):
        raise InputError(f"model is {text!r}, but {head.partition(':')[2]!r} is no name in Python.")
    return NetworkChoice(head, MappingProxyType(options))


def _check_options(library: str, options: Mapping[str, Any]) -> None:
    """Refuse what would read trained weights. Some forms of these can run code, and a file of a
    stranger may name the options."""
    for name, value in options.items():
        if name in _OF_WEIGHTS or name.startswith("pretrained"):
            raise InputError(
                f"The option {name} of a network of {library} is about trained weights. Save them "
                "to a file once, and start from it with --weights."
            )
        if isinstance(value, str) and not re.fullmatch(r"[\w.+-]*", value):
            raise InputError(
                f"The option {name} of a network of {library} is {value!r:.60}. Text may only have "
                "letters, digits and the signs . _ + and -."
            )


def _factory(name: str) -> tuple[Callable[..., Any], Callable[[int, int], dict[str, int]]]:
    """What makes the network, and what it calls classes and channels."""
    module_name, _, rest = name.partition(":")
    if foreign.library_of(name):
        return _of_library(module_name, rest)
    try:
        module = foreign.load(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ImportError) and not foreign.code_of(name)
        raise InputError(
            f"Cannot import {module_name!r} for the model {name!r}: {told(error)}."
            f"{foreign.not_found(module_name) if missing else ''}"
        ) from error
    factory = getattr(module, rest, None)
    if not callable(factory):
        raise InputError(
            f"{module_name!r} has no {rest!r} that could be called, which the model {name!r} names."
        )
    return factory, lambda classes, channels: _arguments(factory, classes, channels)


def _arguments(factory: Callable[..., Any], classes: int, channels: int) -> dict[str, int]:
    """Those of the two numbers that a factory takes, by the names it has for them."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {"num_classes": classes, "in_chans": channels}
    given: dict[str, int] = {}
    known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for names, value in ((_CLASSES, classes), (_CHANNELS, channels)):
        found = next((name for name in names if name in known), "")
        if found:
            given[found] = value
    if not given and any(p.kind is p.VAR_KEYWORD for p in parameters):
        given = {"num_classes": classes, "in_chans": channels}
    return given


def _of_library(
    package: str, name: str
) -> tuple[Callable[..., Any], Callable[[int, int], dict[str, int]]]:
    try:
        library: Any = foreign.load_library(package)
        if package == "torchvision":
            library = library.models
    except ModuleNotFoundError as error:
        raise InputError(
            f"The model {package}:{name} needs the package {package}, but {told(error)}. Install "
            f"it with pip install {error.name or package}."
        ) from error
    except Exception as error:
        raise InputError(
            f"The model {package}:{name} needs the package {package}, which fails when it is "
            f"imported here: {told(error)}. It may not fit torch {torch.__version__}."
        ) from error
    if package == "timm":
        if not library.is_model(name):
            raise InputError(
                f"timm {library.__version__} has no network {name!r}"
                f"{did_you_mean(name, library.list_models())}."
            )
        return (
            lambda **options: library.create_model(name, pretrained=False, **options),
            lambda classes, channels: {"num_classes": classes, "in_chans": channels},
        )
    # Those that classify: others would fetch trained backbones.
    known = library.list_models(module=library)
    if name not in known:
        raise InputError(
            f"torchvision has no network {name!r} for classification{did_you_mean(name, known)}."
        )

    def named(classes: int, channels: int) -> dict[str, int]:
        if channels != 3:
            raise InputError(
                f"The networks of torchvision take images of 3 channels, and these have {channels}."
            )
        return {"num_classes": classes}

    return lambda **options: library.get_model(name, weights=None, **options), named


def check_method(norm: str) -> None:
    """Whether an arm can stand in a network that is not ours.

    Raises:
        InputError: an unknown method, or one that is more than a layer and a convolution.
    """
    if norm == AS_IS:
        return
    try:
        choice = parse_norm(norm)
        _check_placeless(norm, choice.parts)
        with generators_kept():  # a layer of a person's own may draw
            choice.check_parts(_WIDE)
            choice.make(_WIDE)
    except InputError:
        raise
    except ValueError as error:
        # Groups that do not divide this width may divide those of the network.
        if "divide" in str(error):
            return
        raise InputError(f"Arm {norm}: {error}") from error


def _check_placeless(norm: str, parts: Parts) -> None:
    if not is_placeless(parts):
        kinds = ", ".join(spec.name for spec in CATALOG.values() if is_placeless(spec.parts))
        raise InputError(
            f"Arm {norm} replaces activations or puts other layers at some places, which is only "
            f"known for the network {OURS}. In other networks there are {AS_IS}, {kinds}, and "
            "layers of your own."
        )


def is_placeless(parts: Parts) -> bool:
    """Whether a method is a layer and a convolution, the same at all places."""
    return parts == Parts(convolution=parts.convolution)


def classifier_of(model: nn.Module, classes: int) -> str:
    """The path of the layer that gives the logits: the last one registered that is linear, or a
    convolution of one pixel, with so many outputs; "" where there is none.

    >>> classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)), 3)
    '3'
    """
    found = ""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            outputs = module.out_features
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            outputs = module.out_channels
        else:
            continue
        found = path if outputs == classes else found
    return found


def build_network(
    choice: NetworkChoice, norm: str, classes: int, channels: int, seed: int
) -> nn.Module:
    """A network that is not ours with an arm's layer at each of its sites.

    The network declares these (:func:`.sites.declared`). Where a layer had its activation
    within, a :class:`NormActivation` takes its place. With an arm of the catalogue whose
    convolutions have filters of their own, plain convolutions become such. With ``none``, every
    convolution without a bias gets one, which starts at 0.

    Raises:
        InputError: the network cannot be made, has no normalization layer of images, or the arm's
            layer cannot be made for one of its widths.
    """
    made = choice.make(classes, channels, seed)
    check_method(norm)
    if norm != AS_IS:
        made = split_fused(made)
    found = norm_layers(made)
    if not found:
        raise InputError(
            f"The network {choice.name} has no normalization layer of images, so there is nothing "
            "to compare in it."
        )
    if norm != AS_IS:
        made = _with_layers(made, norm, seed, classifier_of(made, classes))
    return declared(made, {path: one.channels for one in found for path in one.paths})


def _with_layers(model: nn.Module, norm: str, seed: int, classifier: str) -> nn.Module:
    method = parse_norm(norm)
    new: dict[int, nn.Module] = {}
    for one in norm_layers(model):
        path = one.paths[0]
        try:
            with drawn_by(seed, "layer", path):
                layer = make_layer(method, one.channels)
        except ValueError as error:
            raise InputError(misfit(path, one.channels, method, error)) from error
        new[id(one.layer)] = carry_over(one.layer, layer.to(*like(one.layer, model)))
    model = exchanged(model, new)
    return _with_convolutions(model, method, classifier)


def misfit(path: str, channels: int, choice: NormChoice, error: ValueError) -> str:
    """That a method cannot stand at a place of a network, and what to do."""
    said = str(error).rstrip(".")
    advice = ""
    if "groups must divide" in said and ("groups" in choice.options or choice.name in CATALOG):
        advice = f" {choice.name}:groups=auto takes a number for each width."
    where = f"{path or 'the top'} ({channels} channels)"
    return f"{choice.name} cannot stand at {where}: {said}.{advice}"


def completed(model: nn.Module, norm: str) -> nn.Module:
    """The network with what the arm asks of convolutions besides its layers: a bias of zeros where
    there is none, if it asks for one."""
    return _with_biases(model) if norm != AS_IS and parse_norm(norm).conv_bias else model


def _with_biases(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))
    return model


@torch.no_grad()
def _with_convolutions(model: nn.Module, method: NormChoice, classifier: str) -> nn.Module:
    """With the method's convolutions in the place of all but the classifier, and the bias that it
    asks for.

    Raises:
        InputError: a convolution of another class, whose filters cannot become the method's.
    """
    own = method.parts.convolution
    if own is nn.Conv2d:
        return _with_biases(model) if method.conv_bias else model
    new: dict[int, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and path != classifier:
            if type(module) is not nn.Conv2d:
                raise InputError(
                    f"Arm {method.name} changes the filters of convolutions, but {path} is "
                    f"{type(module).__name__}, which is no plain one of torch.nn."
                )
            made = method.convolution_like(module).to_empty(device=module.weight.device)
            made.weight.copy_(module.weight)
            if module.bias is not None:
                made.bias = module.bias
            elif made.bias is not None:
                made.bias.zero_()
            if isinstance(made, DrawnConvolution):
                made.weight_drawn()
            new[id(module)] = carry_over(module, made)
    return exchanged(model, new)
