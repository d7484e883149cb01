"""What looks wrong with the normalization of a network, in plain sentences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ..errors import InputError
from ..norms import FrozenBatchNorm2d, GlobalResponseNorm2d, LayerNormCHW
from ..pages.words import counted
from .exchange import NormLayer, like, norm_layers, other_layers
from .modes import in_evaluation
from .resnet import ResNet
from .sites import check_sites

HUGE = 1e8
"""A running variance above this is called huge: standard deviations of more than 10,000."""
_NAMED = 3


@dataclass(frozen=True)
class Concern:
    """Something about the normalization of a network that may be a mistake.

    Attributes:
        kind: a word for it, one of :data:`KINDS`.
        sites: paths of the modules that it is about, the first path of each.
        found: what was found.
        means: what follows from it.
        advice: what to do.
    """

    kind: str
    sites: tuple[str, ...]
    found: str
    means: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found} {self.means} {self.advice}"


KINDS = (
    "not finite",
    "variance",
    "never updated",
    "mode",
    "untracked",
    "momentum",
    "mix",
    "frozen",
    "zero weights",
    "eps",
    "constant",
    "groups of one",
    "useless bias",
    "other layers",
)
"""In the order in which :func:`concerns` lists them."""


def concerns(
    model: nn.Module, image_size: int | None = None, channels: int | None = None
) -> tuple[Concern, ...]:
    """What looks wrong with the normalization of a network.

    Everything listed is true of the network; whether it is meant is for the reader to say. A
    network that was not trained yet has scales of 0 and statistics of new layers by design (the
    last scale of a residual branch often starts at 0), so these are only listed where another
    scale, shift or statistic is not that of a new layer. In :class:`normlab.models.ResNet`
    different layers are no mix if they are what its method puts there.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, momentum=0.0))
    >>> print(concerns(network)[0].found)
    1 normalization layer has momentum 0: 1.

    Args:
        model: any network. It is left as it was.
        image_size: height and width of its images. With it, one image of zeros goes through the
            network, which shows how large the maps at each layer are and what follows what.
        channels: of its images; those of its first convolution where this is None.

    Raises:
        InputError: a layer whose size is not known before its first input; a network that does not
            take one image of that size, with as many channels as its first convolution has.
    """
    layers = norm_layers(model)
    seen = None if image_size is None else _passed(model, layers, image_size, channels)
    found = [
        *_not_finite(model),
        *_variances(model),
        *_statistics(model, layers),
        *_modes(model),
        *_untracked(model),
        *_momenta(model),
        *_mixes(model, layers),
        *_zero_weights(model, layers),
        *_eps(layers),
        *_constant(layers, seen),
        *_groups_of_one(layers),
        *_useless_biases(model, seen),
        *_others(model),
    ]
    return tuple(sorted(found, key=lambda one: KINDS.index(one.kind)))


def _not_finite(model: nn.Module) -> Iterator[Concern]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    names = [
        name for name, one in tensors if one.is_floating_point() and not bool(one.isfinite().all())
    ]
    if names:
        yield Concern(
            "not finite",
            tuple(dict.fromkeys(name.rpartition(".")[0] for name in names)),
            f"{counted(len(names), 'tensor')} {_has(names)} values that are not finite: "
            f"{_few(names)}.",
            "What they reach is not finite either.",
            "Load weights from before this happened.",
        )


def _variances(model: nn.Module) -> Iterator[Concern]:
    for is_wrong, what, means, advice in _WRONG:
        sites, channels, of = [], 0, 0
        for path, module in model.named_modules():
            if (variance := module._buffers.get("running_var")) is None:
                continue
            # What is not finite is listed as such.
            if count := int((is_wrong(variance) & variance.isfinite()).sum()):
                sites.append(path)
                channels, of = channels + count, of + variance.numel()
        if sites:
            yield Concern(
                "variance",
                tuple(sites),
                f"Running variances are {what} in {counted(channels, 'channel')} of {of:,} in "
                f"{_few(sites)}.",
                means,
                advice,
            )


_WRONG: tuple[tuple[Callable[[Tensor], Tensor], str, str, str], ...] = (
    (
        lambda variance: variance < 0,
        "negative",
        "No variance is, and the root of one below -eps is NaN.",
        "Take the statistics anew with normlab.recalibrate, or load the weights again.",
    ),
    (
        lambda variance: variance == 0,
        "exactly 0",
        "Where a layer divides by one, eps alone is left, so that a small change of the input "
        "becomes a large one of the output.",
        "Either these channels were constant when statistics were taken, or the statistics were "
        "not loaded. Compare them with the file.",
    ),
    (
        lambda variance: variance > HUGE,
        f"above {HUGE:.0e}",
        "That is a standard deviation above 10,000, where float16 ends at 65,504.",
        "Take the statistics anew with normlab.recalibrate, and look at the loss in training.",
    ),
)


def _statistics(model: nn.Module, layers: Sequence[NormLayer]) -> Iterator[Concern]:
    tracking = {path: m for path, m in model.named_modules() if _tracks(m)}
    new = [path for path, module in tracking.items() if _is_new(module)]
    if new and _is_trained(model, layers):
        yield Concern(
            "never updated",
            tuple(new),
            f"{counted(len(new), 'layer')} of {len(tracking)} with running statistics "
            f"{_has(new)} those of a new layer, mean 0 and variance 1: {_few(new)}. The network "
            "looks trained otherwise.",
            "In evaluation they divide by nothing that was measured.",
            "Take the statistics with normlab.recalibrate, or load them with the weights.",
        )


def _modes(model: nn.Module) -> Iterator[Concern]:
    changing = {
        path: module
        for path, module in model.named_modules()
        if path and _tracks(module) and not _is_frozen(module)
    }
    off = [path for path, module in changing.items() if module.training != model.training]
    if not off:
        return
    if model.training:
        yield Concern(
            "mode",
            tuple(off),
            f"The network is in training mode, but {counted(len(off), 'layer')} of "
            f"{len(changing)} with running statistics {_is(off)} in evaluation mode: {_few(off)}.",
            "They normalize by stored statistics and do not move them.",
            "If that is meant, normlab.freeze makes it last: train() on the network would end it. "
            "If not, call model.train().",
        )
    else:
        yield Concern(
            "mode",
            tuple(off),
            f"The network is in evaluation mode, but {counted(len(off), 'layer')} of "
            f"{len(changing)} with running statistics {_is(off)} in training mode: {_few(off)}.",
            "They normalize by the statistics of the pass, a batch norm by those of its whole "
            "batch, and update what they stored.",
            "Call model.eval() on the whole network.",
        )


def _untracked(model: nn.Module) -> Iterator[Concern]:
    sites = [
        path
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is None
    ]
    if sites:
        yield Concern(
            "untracked",
            tuple(sites),
            f"{counted(len(sites), 'batch norm')} {_has(sites)} no running statistics "
            f"(track_running_stats=False): {_few(sites)}.",
            "They use the batch's statistics in evaluation too, so what an image gives depends on "
            "the rest of its batch.",
            "Make them with running statistics and take these with normlab.recalibrate, or use a "
            "normalization of each image.",
        )


def _momenta(model: nn.Module) -> Iterator[Concern]:
    tracking = {
        path: module
        for path, module in model.named_modules()
        if _tracks(module) and not _is_frozen(module) and hasattr(module, "momentum")
    }
    still = [path for path, module in tracking.items() if module.momentum == 0]
    plain = [path for path, module in tracking.items() if module.momentum is None]
    if still:
        yield Concern(
            "momentum",
            tuple(still),
            f"{counted(len(still), 'normalization layer')} {_has(still)} momentum 0: "
            f"{_few(still)}.",
            "Their running statistics never move, whatever training does, and evaluation uses "
            "them.",
            "Use 0.1, PyTorch's default. Other libraries count the other way: their 0.9 or 0.99 is "
            "0.1 or 0.01 here.",
        )
    if plain:
        yield Concern(
            "momentum",
            tuple(plain),
            f"{counted(len(plain), 'normalization layer')} {_has(plain)} momentum None: "
            f"{_few(plain)}.",
            "Their running statistics are the plain average over all batches since the start, in "
            "which those of weights long changed count as much as the latest.",
            "This is for taking statistics with weights fixed. For training, use 0.1.",
        )


def _mixes(model: nn.Module, layers: Sequence[NormLayer]) -> Iterator[Concern]:
    if isinstance(model, ResNet):
        try:
            check_sites(model, model.norm)
            return
        except (ValueError, ImportError):
            pass  # it is not what its method makes, so the layers are compared as anywhere else
    families: dict[str, list[str]] = {}
    for one in layers:
        families.setdefault(_family(one.layer), []).append(one.paths[0])
    if len(families) < 2:
        return
    most = max(families, key=lambda family: len(families[family]))
    odd = {family: paths for family, paths in families.items() if family != most}
    sites = tuple(path for paths in odd.values() for path in paths)
    others = "; ".join(f"{len(paths)} {family} ({_few(paths)})" for family, paths in odd.items())
    told = f"The network has {len(families[most])} {most} and {others}."
    if families.keys() == {_BATCH, _FROZEN}:
        frozen = tuple(families[_FROZEN])
        yield Concern(
            "frozen",
            frozen,
            f"{len(frozen)} of {len(layers)} batch norms are frozen: {_few(frozen)}.",
            "They keep their statistics in training, the others take those of the batch.",
            "If that is not meant, normlab.freeze freezes the others too.",
        )
        return
    yield Concern(
        "mix",
        sites,
        told,
        "Its layers normalize over different values, so it stands for no single method.",
        "If that is not meant, normlab.convert puts one kind everywhere.",
    )


def _zero_weights(model: nn.Module, layers: Sequence[NormLayer]) -> Iterator[Concern]:
    if not _is_trained(model, layers):
        return
    all_zero, some, channels, of = [], [], 0, 0
    for one in layers:
        if isinstance(one.layer, GlobalResponseNorm2d):
            continue  # it adds its input, so that a scale of 0 leaves that as it is
        weight = _affine(one.layer, "weight")
        zeros = 0 if weight is None else int((weight == 0).sum())
        if weight is not None and zeros == weight.numel():
            all_zero.append(one.paths[0])
        elif weight is not None and zeros:
            some.append(one.paths[0])
            channels, of = channels + zeros, of + weight.numel()
    if all_zero:
        yield Concern(
            "zero weights",
            tuple(all_zero),
            f"{counted(len(all_zero), 'normalization layer')} {_has(all_zero)} a scale of 0 in "
            f"every channel, in a network that looks trained: {_few(all_zero)}.",
            "They put out nothing of their input. The last scale of a residual branch often "
            "starts at 0, but training moves it.",
            "Look whether the weights were loaded, whether the optimizer has them, and whether "
            "weight decay took them away.",
        )
    if some:
        yield Concern(
            "zero weights",
            tuple(some),
            f"Scales are exactly 0 in {counted(channels, 'channel')} of {of:,} in {_few(some)}.",
            "These channels put out nothing of their input.",
            "Pruning does this, strong weight decay, and a start at 0 in channels that were never "
            "active. If none of these was meant, leave scales out of weight decay.",
        )


def _eps(layers: Sequence[NormLayer]) -> Iterator[Concern]:
    families: dict[str, dict[float, list[str]]] = {}
    for one in layers:
        if isinstance(eps := getattr(one.layer, "eps", None), float):
            own = families.setdefault(_family(one.layer), {})
            own.setdefault(eps, []).append(one.paths[0])
    for family, values in families.items():
        if len(values) < 2:
            continue
        most = max(values, key=lambda eps: len(values[eps]))
        odd = {eps: paths for eps, paths in values.items() if eps != most}
        said = ", ".join(f"{_few(paths)} ({eps:g})" for eps, paths in odd.items())
        count, of = len(values[most]), sum(map(len, values.values()))
        yield Concern(
            "eps",
            tuple(path for paths in odd.values() for path in paths),
            f"Not every {family} has the same eps: {count} of {of} {_has(values[most])} {most:g}, "
            f"unlike {said}.",
            "Channels of small variance are scaled differently there.",
            "Use the eps that the weights were trained with, which libraries choose differently.",
        )


def _constant(layers: Sequence[NormLayer], seen: _Pass | None) -> Iterator[Concern]:
    if seen is None:
        return
    sites = []
    for one in layers:
        group = _values_per_position(one.layer)
        if group and min(seen.positions.get(id(one.layer), [0])) * group == 1:
            sites.append(one.paths[0])
    if sites:
        yield Concern(
            "constant",
            tuple(sites),
            f"With images of {seen.image_size} pixels, {counted(len(sites), 'layer')} "
            f"{_has(sites)} one value for each mean and variance: {_few(sites)}.",
            "A value less its own mean is 0, so the output is the bias, whatever the image. "
            "PyTorch's own instance norm refuses such a map.",
            "Use larger images, fewer strides, or groups of several channels.",
        )


def _groups_of_one(layers: Sequence[NormLayer]) -> Iterator[Concern]:
    sites = [
        one.paths[0]
        for one in layers
        if isinstance(one.layer, nn.GroupNorm) and one.layer.num_groups == one.channels > 1
    ]
    if sites:
        yield Concern(
            "groups of one",
            tuple(sites),
            f"{counted(len(sites), 'group norm')} {_has(sites)} as many groups as channels: "
            f"{_few(sites)}.",
            "That is instance norm: it takes each map's own mean and spread away.",
            "If that is not meant, use fewer groups.",
        )


def _useless_biases(model: nn.Module, seen: _Pass | None) -> Iterator[Concern]:
    followed = dict(_in_sequence(model))
    if seen is not None:
        followed |= seen.followed
    sites = [
        path
        for path, norm in followed.items()
        if model.get_submodule(path)._parameters.get("bias") is not None
        and isinstance(norm, (_BatchNorm, nn.InstanceNorm2d))
    ]
    if sites:
        yield Concern(
            "useless bias",
            tuple(sites),
            f"{counted(len(sites), 'convolution')} {_has(sites)} a bias and {_is(sites)} followed "
            f"by a normalization that subtracts each channel's mean: {_few(sites)}.",
            "In training the bias changes nothing, and its gradient is 0 but for rounding. It "
            "does no harm.",
            "Leave it out (bias=False) when you make the network again.",
        )


def _others(model: nn.Module) -> Iterator[Concern]:
    others = other_layers(model)
    for kind, reason in dict.fromkeys((one.layer, one.reason) for one in others):
        paths = [one.path for one in others if (one.layer, one.reason) == (kind, reason)]
        one = len(paths) == 1
        yield Concern(
            "other layers",
            tuple(paths),
            f"{counted(len(paths), kind)} {_is(paths)} no normalization that can be exchanged: "
            f"{_few(paths)}. {'It' if one else 'Each'} {reason}.",
            f"Arms of a comparison and normlab.convert leave {'it' if one else 'them'} as "
            f"{'it is' if one else 'they are'}.",
            "Keep this in mind when you compare normalizations in this network.",
        )


_BATCH, _FROZEN = "batch norm", "frozen batch norm"


def _family(layer: nn.Module) -> str:
    if _is_frozen(layer):
        return _FROZEN
    if isinstance(layer, (nn.LayerNorm, LayerNormCHW)):
        return "layer norm"
    for kind, words in (
        (_BatchNorm, _BATCH),
        (nn.GroupNorm, "group norm"),
        (nn.InstanceNorm2d, "instance norm"),
    ):
        if isinstance(layer, kind):
            return words
    return type(layer).__name__


def _values_per_position(layer: nn.Module) -> int:
    """How many values of a position enter one mean and variance of an image; 0 if others do."""
    if isinstance(layer, nn.InstanceNorm2d):
        return 0 if layer.track_running_stats and not layer.training else 1
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels // layer.num_groups
    return 0


def _is_frozen(layer: nn.Module) -> bool:
    if isinstance(layer, (FrozenBatchNorm2d, _NormBase)):
        return isinstance(layer, FrozenBatchNorm2d)
    return {"weight", "bias", "running_mean", "running_var"} <= layer._buffers.keys()


def _tracks(module: nn.Module) -> bool:
    return module._buffers.get("running_var") is not None


def _is_new(module: nn.Module) -> bool:
    """Whether running statistics are those of a new layer."""
    mean, variance = (module._buffers.get(name) for name in ("running_mean", "running_var"))
    moved = mean is not None and bool(mean.any())
    return not moved and variance is not None and bool(variance.eq(1).all())


def _affine(layer: nn.Module, name: str) -> Tensor | None:
    """A weight or bias per channel."""
    value = getattr(layer, name, None)
    return value.detach() if isinstance(value, Tensor) and value.dim() == 1 else None


def _is_trained(model: nn.Module, layers: Sequence[NormLayer]) -> bool:
    """Whether any scale, shift or statistic is other than in a new layer."""
    if any(_tracks(module) and not _is_new(module) for module in model.modules()):
        return True
    for one in layers:
        weight, bias = _affine(one.layer, "weight"), _affine(one.layer, "bias")
        if weight is not None and bool(((weight != 0) & (weight != 1)).any()):
            return True
        if bias is not None and bool(bias.any()):
            return True
    return False


@dataclass(frozen=True)
class _Pass:
    """What one pass of an image showed: positions of the maps that each layer took, by its id, and
    the module that alone takes a convolution's output, by the convolution's path."""

    image_size: int
    positions: dict[int, list[int]]
    followed: dict[str, nn.Module]


def _passed(
    model: nn.Module, layers: Sequence[NormLayer], image_size: int, channels: int | None
) -> _Pass:
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if channels is None and first is None:
        raise InputError(
            f"{type(model).__name__} has no convolution, so how many channels its images have is "
            "not known. Give channels, or leave image_size out."
        )
    device, dtype = like(model, model)
    count = first.in_channels if channels is None and first is not None else channels
    assert count is not None
    image = torch.zeros(1, count, image_size, image_size, device=device, dtype=dtype)
    known = {id(one.layer): one.layer for one in layers}
    positions: dict[int, list[int]] = {}
    # A tensor that was changed in place is another one.
    taken: dict[tuple[int, int], nn.Module] = {}
    made: dict[str, list[tuple[Tensor, int, Any]]] = {}

    def before(module: nn.Module, inputs: Any) -> None:
        if inputs and isinstance(x := inputs[0], Tensor):
            taken[id(x), x._version] = module
            if id(module) in known and x.dim() == 4:
                positions.setdefault(id(module), []).append(x[0, 0].numel())

    def of(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            made.setdefault(path, []).append((output, output._version, output.grad_fn))

        return after

    handles = []
    for path, module in model.named_modules():
        if id(module) in known or not any(module.children()):
            handles.append(module.register_forward_pre_hook(before))
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(of(path)))
    try:
        with in_evaluation(model), torch.inference_mode(False), torch.enable_grad():
            outputs = model(image.clone().requires_grad_() * 1)
    except (RuntimeError, ValueError, TypeError) as error:
        if any(
            min(seen) * _values_per_position(known[one]) == 1 for one, seen in positions.items()
        ):
            return _Pass(image_size, positions, {})  # which is why
        raise InputError(
            f"{type(model).__name__} does not take an image of shape {tuple(image.shape)}: "
            f"{str(error).splitlines()[0].rstrip('.')}. Give another image_size, or leave it out."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    uses = _uses(outputs)
    followed = {}
    for path, ((output, version, node), *again) in made.items():
        behind = taken.get((id(output), version))
        if behind is not None and not again and uses[node] == 1:
            followed[path] = behind
    return _Pass(image_size, positions, followed)


def _uses(outputs: Any) -> Counter[Any]:
    """How many operations take the output of each node of the graph behind a network's outputs."""
    pending: list[Any] = []

    def collect(value: Any) -> None:
        if isinstance(value, Tensor) and value.grad_fn is not None:
            pending.append(value.grad_fn)
        elif isinstance(value, dict):
            collect(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for one in value:
                collect(one)

    collect(outputs)
    uses = Counter(pending)
    seen = set(pending)
    while pending:
        for node, _ in pending.pop().next_functions:
            if node is not None:
                uses[node] += 1
                if node not in seen:
                    seen.add(node)
                    pending.append(node)
    return uses


def _in_sequence(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions in a Sequential, and the module after each."""
    for prefix, parent in model.named_modules():
        if type(parent) is nn.Sequential:
            children = list(parent.named_children())
            for (name, child), (_, after) in itertools.pairwise(children):
                if isinstance(child, nn.Conv2d):
                    yield f"{prefix}.{name}" if prefix else name, after


def _few(paths: Sequence[str]) -> str:
    said = ", ".join(path or "the network itself" for path in paths[:_NAMED])
    return said + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")


def _has(paths: Sequence[str]) -> str:
    return "has" if len(paths) == 1 else "have"


def _is(paths: Sequence[str]) -> str:
    return "is" if len(paths) == 1 else "are"
