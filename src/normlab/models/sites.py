"""Where normalization is in a network, read from the network itself.

The list comes from the modules, not from what the constructor meant to build. The mistake to catch
is a network whose name says group norm and whose blocks contain batch norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import did_you_mean
from ..foreign import is_ours
from ..norms import Norm2d, NormChoice, ParameterNeeds, Place, Ramp, parse_norm
from ..norms.places import options_of
from ..runs import AS_IS
from .custom import make_layer
from .drawing import generators_kept
from .exchange import norm_layers

_NORMS = (Norm2d, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Site:
    """A place in a network where there is normalization, or another part of a method.

    Attributes:
        name: the module's path in the network.
        layer: the class of what was found there.
        channels: channels of the convolution before it, or of the convolution that it is.
        detail: its ``repr``.
    """

    name: str
    layer: str
    channels: int
    detail: str


def declared(model: nn.Module, channels: Mapping[str, int]) -> nn.Module:
    """The network, which says from now on where its sites are, in ``normalization_sites``.

    Networks other than ours have normalization anywhere. Where it is can be seen as long as the
    layers are of known kinds; layers of a person's own and the identity are found by this.

    Args:
        model: any network.
        channels: paths of the layers, and their channels.
    """
    model.normalization_sites = dict(channels)  # type: ignore[assignment]
    return model


def _declared_by(model: nn.Module) -> Mapping[str, int] | None:
    said = getattr(model, "normalization_sites", None)
    return said if isinstance(said, dict) else None


def sites(model: nn.Module) -> tuple[Site, ...]:
    """The sites that the network declares; where it does not, the module registered directly after
    each convolution, in order.

    >>> [site.layer for site in sites(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8)))]
    ['GroupNorm']
    """
    said = _declared_by(model)
    if said is not None:
        there = {path: model.get_submodule(path) for path in said}
        return tuple(
            Site(path, type(layer).__name__, said[path], repr(layer))
            for path, layer in there.items()
        )
    found: list[Site] = []
    for prefix, parent in model.named_modules():
        if any(_within(prefix, site.name) for site in found):
            continue  # what a layer is made of is its own affair
        children = list(parent.named_children())
        for (_, before), (name, layer) in itertools.pairwise(children):
            if isinstance(before, nn.Conv2d):
                path = f"{prefix}.{name}" if prefix else name
                found.append(Site(path, type(layer).__name__, before.out_channels, repr(layer)))
    return tuple(found)


def followers(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Path of each convolution to the paths of what is registered after it, up to the next one.

    These are the normalization and the activation, with whatever stands between them. Containers
    and linear layers end the list.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten())
    >>> followers(network)
    {'0': ('1', '2', '3')}
    """
    found: dict[str, tuple[str, ...]] = {}
    inside: set[str] = set()
    for prefix, parent in model.named_modules():
        if prefix in inside:
            continue
        behind = ""
        for name, child in parent.named_children():
            path = f"{prefix}.{name}" if prefix else name
            if isinstance(child, nn.Conv2d):
                behind = path
                found[path] = ()
            elif isinstance(child, (nn.ModuleList, nn.Sequential, nn.Linear)):
                behind = ""
            elif behind:
                found[behind] += (path,)
                inside |= {f"{path}.{part}" if part else path for part, _ in child.named_modules()}
    return found


def outside_sites(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of all that is not part of a normalization.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 1)))
    >>> [name for name, module in outside_sites(network) if isinstance(module, nn.Conv2d)]
    ['0']
    """
    names = [site.name for site in sites(model)]
    for name, module in model.named_modules():
        if not any(_within(name, site) for site in names):
            yield name, module


def other_parts(model: nn.Module) -> tuple[Site, ...]:
    """What a method put into the network besides the layers at the sites: convolutions of its own,
    what follows a sum, and activations that are not ReLU.

    The detail of a convolution has the options of its own class alone.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Identity(), nn.Tanh())
    >>> [(part.name, part.detail) for part in other_parts(network)]
    [('2', 'Tanh()')]
    """
    found: list[Site] = []
    if _declared_by(model) is not None:
        for name, module in model.named_modules():
            kind = type(module)
            if isinstance(module, nn.Conv2d) and is_ours(kind.__module__):
                found.append(Site(name, kind.__name__, module.out_channels, _with_options(module)))
        return tuple(found)
    at_sites = {site.name for site in sites(model)}
    outside = dict(outside_sites(model))
    for name, behind in followers(model).items():
        if name not in outside:
            continue
        convolution = model.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        channels = convolution.out_channels
        if type(convolution) is not nn.Conv2d:
            own = type(convolution)
            found.append(Site(name, own.__name__, channels, _with_options(convolution)))
        for path in behind:
            part = model.get_submodule(path)
            if path not in at_sites and type(part) is not nn.ReLU:
                found.append(Site(path, type(part).__name__, channels, repr(part)))
    return tuple(found)


def _with_options(part: nn.Module) -> str:
    said = [
        f"{name}={getattr(part, name)!r}" for name in options_of(type(part)) if hasattr(part, name)
    ]
    return f"{type(part).__name__}({', '.join(said)})"


def check_sites(model: nn.Module, norm: str) -> tuple[Site, ...]:
    """The sites, after checking that each place has what the arm puts there and that there is no
    other normalization.

    Raises:
        ValueError: a site with another layer or other options, a convolution or an activation that
            is not the arm's, a convolution without a site, or a normalization anywhere else.
    """
    if _declared_by(model) is not None:
        return _check_declared(model, norm)
    choice = parse_norm(norm)
    found = sites(model)
    outside = dict(outside_sites(model))
    convolutions = sum(isinstance(module, nn.Conv2d) for module in outside.values())
    if len(found) != convolutions:
        raise ValueError(
            f"the network has {convolutions} convolutions but {len(found)} sites of "
            "normalization. Each convolution must be followed by one."
        )
    names = {site.name for site in found}
    for name, behind in followers(model).items():
        if name in outside:
            _check_place(model, choice, norm, name, behind)
            names.update(behind)
    strays = [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, _NORMS) and not any(_within(name, site) for site in names)
    ]
    if strays:
        raise ValueError(f"there is normalization outside the sites: {', '.join(strays)}")
    return found


def _check_place(
    model: nn.Module, choice: NormChoice, norm: str, name: str, behind: tuple[str, ...]
) -> None:
    convolution = model.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    asks = getattr(model, "place_of", None)
    place = Place() if asks is None else asks(name)
    channels = convolution.out_channels
    _check_module(name, convolution, choice.convolution_like(convolution), norm)
    # A network of somebody else's has no places: the method's own layer stands everywhere.
    expected = [choice.make(channels) if asks is None else choice.layer(place, channels)]
    if asks is not None and place.position == "last":
        after_sum = choice.after_sum(place, channels)
        expected += [] if after_sum is None else [after_sum]
    if asks is not None and place.position != "shortcut":
        expected.append(choice.activation(place, channels))
    if len(behind) < len(expected):
        raise ValueError(
            f"after {name} there are {len(behind)} modules, but the arm {norm!r} puts "
            f"{len(expected)} there. The run would not compare what its name says."
        )
    for path, wanted in zip(behind, expected, strict=False):
        _check_module(path, model.get_submodule(path), wanted, norm)


def _check_declared(model: nn.Module, norm: str) -> tuple[Site, ...]:
    """Of a network that declares its sites: each has the arm's layer, no other place has a
    normalization layer of images, and convolutions are the method's."""
    found = sites(model)
    names = {site.name for site in found}
    strays = [path for one in norm_layers(model) for path in one.paths if path not in names]
    if strays:
        raise ValueError(f"there is normalization outside of the sites: {', '.join(strays)}.")
    if norm != AS_IS:
        choice = parse_norm(norm)
        own = choice.parts.convolution
        plain = [n for n, m in model.named_modules() if type(m) is nn.Conv2d]
        if own is not nn.Conv2d and len(plain) > 1:  # a classifier may be one
            raise ValueError(
                f"{plain[0]} is a plain convolution, but the arm {norm!r} asks for {own.__name__}. "
                "The run would not compare what its name says."
            )
        for site in found:
            with generators_kept():  # a layer of a person's own may draw
                expected = make_layer(choice, site.channels)
            _check_module(site.name, model.get_submodule(site.name), expected, norm)
    return found


def _check_module(name: str, found: nn.Module, expected: nn.Module, norm: str) -> None:
    if type(found) is not type(expected) or repr(found) != repr(expected):
        raise ValueError(
            f"site {name} has {found!r}, but the arm {norm!r} asks for {expected!r}. The run would "
            "not compare what its name says."
        )


def _within(name: str, site: str) -> bool:
    return name == site or name.startswith(site + ".")


def needs_of(model: nn.Module) -> dict[int, ParameterNeeds]:
    """What every parameter needs of the optimizer, by its id: as its layer declares in
    ``optimizer_needs``, or nothing special.

    A parameter that a layer was made without (``register_parameter(name, None)``) needs nothing.

    Raises:
        ValueError: a layer declares needs of a parameter that it does not have, or not as
            :class:`~normlab.norms.ParameterNeeds`.
    """
    found = {id(parameter): ParameterNeeds() for parameter in model.parameters()}
    for path, module in model.named_modules():
        where = f"{type(module).__name__} at {path or 'the top'}"
        declared = getattr(module, "optimizer_needs", {})
        if not isinstance(declared, Mapping):
            raise ValueError(
                f"optimizer_needs of {where} must map names of parameters to ParameterNeeds, got "
                f"{declared!r:.80}."
            )
        for name, need in declared.items():
            known = dict(module.named_parameters(recurse=False))
            if name not in module._parameters:
                raise ValueError(
                    f"{where} declares optimizer needs of {name!r}, which is not one of its "
                    f"parameters{did_you_mean(str(name), known)}. It has "
                    f"{', '.join(known) or 'none of its own'}."
                )
            if not isinstance(need, ParameterNeeds):
                raise ValueError(
                    f"{where} declares optimizer needs of {name!r} as {need!r:.80}. Use "
                    "normlab.norms.ParameterNeeds(lr_scale=..., weight_decay=..., clamp=..., "
                    "unit_clip=...)."
                )
            if (parameter := module._parameters[name]) is not None:
                found[id(parameter)] = need
    return found


def schedules_of(model: nn.Module) -> tuple[tuple[nn.Module, str, Ramp], ...]:
    """Every attribute of a module that follows the run, as its ``schedules`` declare.

    >>> from normlab.norms import make_norm
    >>> [(name, ramp.last) for _, name, ramp in schedules_of(make_norm("batch_renorm", 4))]
    [('r_max', 3.0), ('d_max', 5.0)]

    Raises:
        ValueError: a module declares a schedule of an attribute that it does not have or that is no
            plain number, not as :class:`~normlab.norms.Ramp`, or with another last value than the
            constructor set.
    """
    found = []
    for path, module in model.named_modules():
        where = f"{type(module).__name__} at {path or 'the top'}"
        declared = getattr(module, "schedules", {})
        if callable(declared):
            continue  # a name of the module's own
        if not isinstance(declared, Mapping):
            raise ValueError(
                f"schedules of {where} must map names of attributes to Ramp, got {declared!r:.80}."
            )
        for name, ramp in declared.items():
            if not isinstance(ramp, Ramp):
                raise ValueError(
                    f"{where} declares a schedule of {name!r} as {ramp!r:.80}. Use "
                    "normlab.norms.Ramp(((share, value), ...))."
                )
            value = getattr(module, str(name), None)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise ValueError(
                    f"{where} declares a schedule of {name!r}, which is not one of its attributes "
                    f"that are numbers (it is {value!r:.80}). Set it in __init__."
                )
            if value != ramp.last:
                raise ValueError(
                    f"{where} sets {name} to {value!r} in __init__, but its schedule ends at "
                    f"{ramp.last!r}. Set it to the value that the schedule ends at, since a saved "
                    "model has that."
                )
            found.append((module, str(name), ramp))
    return tuple(found)
