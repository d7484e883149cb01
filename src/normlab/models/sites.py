"""Where normalization is in a network, read from the network itself.

The list comes from the modules, not from what the constructor meant to build. The mistake to catch
is a network whose name says group norm and whose blocks contain batch norm.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..norms import Norm2d, ParameterNeeds, parse_norm

_NORMS = (Norm2d, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Site:
    """A place in a network where there is normalization.

    Attributes:
        name: the module's path in the network.
        layer: the class of the layer found there.
        channels: channels of the convolution before it.
        detail: the layer's ``repr``.
    """

    name: str
    layer: str
    channels: int
    detail: str


def sites(model: nn.Module) -> tuple[Site, ...]:
    """The module registered directly after each convolution, in order.

    >>> [site.layer for site in sites(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8)))]
    ['GroupNorm']
    """
    found = []
    for prefix, parent in model.named_modules():
        children = list(parent.named_children())
        for (_, before), (name, layer) in itertools.pairwise(children):
            if isinstance(before, nn.Conv2d):
                path = f"{prefix}.{name}" if prefix else name
                found.append(Site(path, type(layer).__name__, before.out_channels, repr(layer)))
    return tuple(found)


def check_sites(model: nn.Module, norm: str) -> tuple[Site, ...]:
    """The sites, after checking that each has the arm's layer and that there are no others.

    Raises:
        ValueError: a site with another layer or other options, a convolution without a site, or a
            normalization anywhere else.
    """
    choice = parse_norm(norm)
    found = sites(model)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    if len(found) != convolutions:
        raise ValueError(
            f"the network has {convolutions} convolutions but {len(found)} sites of "
            "normalization. Each convolution must be followed by one."
        )
    for site in found:
        expected = choice.make(site.channels)
        layer = model.get_submodule(site.name)
        if type(layer) is not type(expected) or repr(layer) != repr(expected):
            raise ValueError(
                f"site {site.name} has {site.detail}, but the arm {norm!r} asks for "
                f"{expected!r}. The run would not compare what its name says."
            )
    names = {site.name for site in found}
    strays = [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, _NORMS) and not any(_within(name, site) for site in names)
    ]
    if strays:
        raise ValueError(f"there is normalization outside the sites: {', '.join(strays)}")
    return found


def _within(name: str, site: str) -> bool:
    return name == site or name.startswith(site + ".")


def needs_of(model: nn.Module) -> dict[int, ParameterNeeds]:
    """What every parameter needs of the optimizer, by its id: as its layer declares in
    ``optimizer_needs``, or nothing special.

    Raises:
        ValueError: a layer declares needs of a parameter that it does not have.
    """
    found = {id(parameter): ParameterNeeds() for parameter in model.parameters()}
    for path, module in model.named_modules():
        for name, need in getattr(module, "optimizer_needs", {}).items():
            parameter = getattr(module, name, None)
            if not isinstance(parameter, nn.Parameter):
                raise ValueError(
                    f"{type(module).__name__} at {path or 'the top'} declares optimizer needs of "
                    f"{name!r}, which is not one of its parameters."
                )
            found[id(parameter)] = need
    return found
