"""A method in words, read off its spec: for the terminal and the docs."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from torch import nn

from ..foreign import is_ours
from ..pages.words import listed, spelled
from .axes import read_axes
from .formulas import readable
from .fused import is_computed_again
from .methods import SPECS
from .places import Parts, Place, Position, kinds_of_place
from .spec import NormSpec

_POSITIONS: dict[Position, str] = {
    "stem": "the network's first convolution",
    "inner": "the first convolution of a block",
    "last": "the last convolution of a block",
    "shortcut": "the convolution of a shortcut",
}

_CHANNELS = 16
"""Of the layers that are made to be described."""

_BLOCKS = ("the first block", "the blocks between", "the last block")


def facts(spec: NormSpec) -> dict[str, str]:
    """What there is to say about a method, label to text; what does not apply is omitted."""
    needs = [
        f"{name}: learning rate x{need.lr_scale:g}"
        + ("" if need.weight_decay else ", no weight decay")
        + ("" if need.clamp is None else f", clamped to {list(need.clamp)} after each step")
        + ("" if need.unit_clip is None else f", gradient clipped by unit at {need.unit_clip:g}")
        for name, need in spec.optimizer_needs.items()
    ]
    compiled = is_computed_again(spec.layer(_CHANNELS))
    said = {
        "filters": readable(spec.filters) if spec.filters else "",
        "statistics": "; ".join(
            f"over {notation}: {read_axes(notation).words()}" for notation in spec.axes
        ),
        "variance": f"divided by {spec.variance}" if spec.variance else "",
        "running": f"variance divided by {spec.running_variance}; momentum weighs {spec.momentum}"
        if spec.running_variance
        else "",
        "eps": spec.eps_place,
        "evaluation": spec.evaluation,
        "buffers": ", ".join(spec.buffers),
        "options": ", ".join(f"{name}={value}" for name, value in spec.options.items()),
        "parameters": "; ".join(_parameters(spec)),
        "schedule": "; ".join(_schedules(spec)),
        "optimizer": "; ".join(needs),
        "convolution": "the one before it has " + ("a bias" if spec.conv_bias else "no bias"),
        **in_network(spec),
        "kernels": "in C where they can be used, by PyTorch otherwise" if compiled else "",
        "layer": f"{'normlab.norms' if is_ours(spec.layer.__module__) else 'torch.nn'}"
        f".{spec.layer.__name__}",
        "make_norm": _alone(spec),
    }
    return {label: text for label, text in said.items() if text}


def _alone(spec: NormSpec) -> str:
    """What a method of more than a layer is where the layer is all that is made of it."""
    if spec.parts.plain:
        return ""
    same = [one.name for one in SPECS if one.layer is spec.layer and one.parts.plain]
    return f"the layer alone{f', as for {listed(same)}' if same else ''}"


def formula(spec: NormSpec) -> str:
    """The formula as people write it; that of the filters above it where there is one."""
    filters = f"w' = {readable(spec.filters)}\n" if spec.filters else ""
    return f"{filters}y = {readable(spec.formula)}"


def year(spec: NormSpec) -> str:
    """Of the paper, or nothing.

    >>> from normlab.norms import CATALOG
    >>> year(CATALOG["gn"])
    '2018'
    """
    found = re.findall(r"\b(?:19|20)\d\d\b", spec.citation)
    return found[0] if found else ""


def in_network(spec: NormSpec) -> dict[str, str]:
    """What a method puts into a residual network besides its layer after every convolution, read
    off its parts at every kind of place; nothing for most methods.

    >>> from normlab.norms import CATALOG
    >>> in_network(CATALOG["bn"])
    {}
    """
    parts, plain = spec.parts, Parts()
    said = {}
    if parts.convolution is not plain.convolution:
        said["convolutions"] = parts.convolution.__name__
    own = _named(lambda place: parts.layer(place) or spec.layer, kinds_of_place())
    if own != spec.layer.__name__:
        said["after a convolution"] = own
    activation = _named(parts.activation, kinds_of_place())
    if activation != "ReLU":
        said["activation"] = activation
    ends = [place for place in kinds_of_place() if place.position == "last"]
    after_sum = _named(parts.after_sum, ends)
    if after_sum != "nothing":
        said["after a block's sum"] = after_sum.removeprefix("nothing; ")
    weights = _by_place(parts.weights, kinds_of_place(), lambda factor: f"x{factor:.3g}")
    if weights != "x1":
        said["initial weights"] = f"{weights} (factors at three blocks per stage)"
    if parts.classifier != 1.0:
        said["initial classifier"] = f"x{parts.classifier:g}"
    return said


def _parameters(spec: NormSpec) -> list[str]:
    """Every parameter besides the weights of convolutions, and the weight from 1 and bias from 0
    of each channel that most layers have."""
    said: dict[str, None] = {}
    for part in (spec.layer, *spec.parts.classes()):
        convolution = issubclass(part, nn.Conv2d)
        if part in (nn.ReLU, nn.Identity, nn.Conv2d):
            continue
        made = part(4, _CHANNELS, 3) if convolution else part(_CHANNELS)
        for name, parameter in made.named_parameters(recurse=False):
            values = parameter.detach().flatten().tolist()
            usual = len(values) == _CHANNELS and values[0] == {"weight": 1.0, "bias": 0.0}.get(name)
            if usual or (convolution and name in ("weight", "bias")):
                continue
            of = "channel" if len(values) == _CHANNELS else "layer"
            number = "one" if of == "channel" else spelled(len(values))
            start = f", from {values[0]:g}" if len(set(values)) == 1 else ""
            said[f"{name}: {number} per {of}{start}"] = None
    return list(said)


def _schedules(spec: NormSpec) -> list[str]:
    """What follows a run, and how."""
    ramps = getattr(spec.layer(_CHANNELS), "schedules", {})
    return [
        f"{name}: "
        + ", ".join(f"{value:g} at {100 * share:g} %" for share, value in ramp.points)
        + " of a run's updates, on a line in between"
        for name, ramp in ramps.items()
    ]


def _named(of: Callable[[Place], type[nn.Module] | None], places: Iterable[Place]) -> str:
    return _by_place(of, places, lambda part: "nothing" if part is None else part.__name__)


def _by_place(
    of: Callable[[Place], Any], places: Iterable[Place], said: Callable[[Any], str]
) -> str:
    """What stands where: one name where it is the same everywhere, else each with its places."""
    found: dict[Hashable, list[Place]] = {}
    everywhere = list(places)
    for place in everywhere:
        found.setdefault(of(place), []).append(place)
    if len(found) == 1:
        return said(next(iter(found)))
    # The one at most places is the rule.
    usual = max(found, key=lambda key: len(found[key]))
    others = [
        f"{said(key)} {_where(there, everywhere)}" for key, there in found.items() if key != usual
    ]
    return f"{said(usual)}; {'; '.join(others)}"


def _where(places: list[Place], everywhere: list[Place]) -> str:
    """The positions, unless there is but one kind, with stages and blocks where it is not all."""
    positions = {place.position for place in everywhere}
    said = []
    for position, name in _POSITIONS.items():
        here = {(p.stage, p.block) for p in places if p.position == position}
        every = {(p.stage, p.block) for p in everywhere if p.position == position}
        if not here:
            continue
        words = [f"at {name}"] if len(positions) > 1 else []
        if here != every:
            words.append(f"in {_limits(here)}")
        said.append(" ".join(words))
    return listed(said)


def _limits(here: set[tuple[int, int]]) -> str:
    """Pairs of stage and block, of three each, in words."""
    stages, blocks = ({pair[axis] for pair in here} for axis in (0, 1))
    if here != {(stage, block) for stage in stages for block in blocks}:
        return listed([f"{_BLOCKS[b]} of stage {s + 1}" for s, b in sorted(here)])
    whole = {0, 1, 2}
    numbers = listed([str(stage + 1) for stage in sorted(stages)])
    of = "each stage" if stages == whole else f"stage{'s' * (len(stages) > 1)} {numbers}"
    return of if blocks == whole else f"{listed([_BLOCKS[b] for b in sorted(blocks)])} of {of}"
