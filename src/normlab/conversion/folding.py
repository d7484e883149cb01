"""Normalization that is a scale and a shift, computed by the convolution before it."""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import InputError, told
from ..models import exchanged
from ._affine import AFFINE, scale_and_shift
from .exact import plain_convolution

TOLERANCE = 1e-10
"""Largest permitted difference of an output in float64, as a share of the largest one (or of 1)."""
_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_Weighted = nn.Linear | nn.modules.conv._ConvNd
_WATCHING = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_WARM_UP = 2


@dataclass(frozen=True)
class Folding:
    """What :func:`fold` made.

    Attributes:
        model: the network, with fewer layers.
        folded: path of each layer that is gone to the path of what computes it now.
        plain: paths of convolutions with normalized weights that are plain ones now.
        kept: path of each layer with running statistics, or of a scale and a shift, that could not
            be folded, and of each convolution that could not be made plain, to the reason.
        difference: largest absolute difference of an output in float64.
        scale: largest absolute output, but at least 1.
        seconds: median time of a pass before and after, in alternating passes; None where not
            measured.
    """

    model: nn.Module
    folded: Mapping[str, str]
    plain: tuple[str, ...]
    kept: Mapping[str, str]
    difference: float
    scale: float
    seconds: tuple[float, float] | None = None

    def __str__(self) -> str:
        said = [f"{len(self.folded)} layers folded"]
        if self.plain:
            said.append(f"{len(self.plain)} convolutions made plain")
        text = (
            f"{', '.join(said)}. Outputs in float64 differ by at most {self.difference:.1e} "
            f"(largest: {self.scale:.1f})."
        )
        if self.seconds is not None:
            before, after = self.seconds
            text += (
                f" A pass takes {1000 * after:.3g} ms, before {1000 * before:.3g} ms "
                f"({before / after:.2f} times as fast)."
            )
        return text


def fold(model: nn.Module, images: Tensor, *, passes: int = 0) -> Folding:
    """Fold normalization into the convolutions before it, in a copy of a network for inference.

    Batch normalization in evaluation, a frozen one, and a layer of a scale and a shift are
    ``y = s * x + t`` for each channel. After a convolution or a linear layer with weight w and bias
    b, that is the layer with weight ``s * w`` and bias ``s * b + t``; an identity takes the place
    of what is gone. Convolutions with normalized weights of this package become plain ones with
    their ``effective_weight()``.

    Which layer follows which is not guessed from the order of modules. The network is run on
    ``images`` in float64, and what is computed is observed. A layer is folded if its input is the
    output of a convolution (with groups or transposed ones too) or a linear layer, both are used
    once, and nothing else uses that output. Other layers stay as they are, with the reason in
    ``kept``. Then both networks are run on ``images`` in float64 and compared: a network that does
    not give the same is refused.

    The network is taken to compute for all images what it computes for these; one that decides by
    their values which layers to use may not. In training the copy no longer normalizes.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    >>> made = fold(network, torch.randn(2, 3, 8, 8))
    >>> dict(made.folded), made.model[1], made.difference < 1e-14
    ({'1': '0'}, Identity(), True)

    Args:
        model: the network, which takes one batch. It is not changed.
        images: a batch of at least one.
        passes: passes of each network over ``images`` that are timed, in turns; 0 measures no time.

    Raises:
        InputError: nothing can be folded (with the reasons), a network that cannot be run in
            float64 or gives no tensors, or one whose outputs differ afterwards.
    """
    exact, before = _in_float64(model, images)
    result = copy.deepcopy(model)
    plain = _plain(result)
    _plain(exact)
    folded, kept = fold_all(exact, images.double())
    fold_into(result, folded)
    kept = {**_watched_filters(exact), **kept}
    if not folded and not plain:
        said = "; ".join(f"{name} {reason}" for name, reason in list(kept.items())[:3])
        raise InputError(
            f"{type(model).__name__} has nothing to fold{f': {said}' if said else ''}."
        )
    after = _outputs(exact, images.double())
    scale = max([1.0, *(float(one.abs().max()) for one in before if one.numel())])
    difference = _largest_difference(before, after)
    if not difference <= TOLERANCE * scale:
        raise InputError(
            f"The folded network does not compute the same: in float64 its outputs differ by up to "
            f"{difference:.3g} (largest: {scale:.3g}). It uses its layers in a way that was not "
            "seen. Nothing was changed."
        )
    seconds = _seconds(model, result, images, passes) if passes else None
    return Folding(result, folded, plain, kept, difference, scale, seconds)


def fold_all(
    model: nn.Module, images: Tensor, wanted: Callable[[str], bool] = lambda path: True
) -> tuple[dict[str, str], dict[str, str]]:
    """Fold all that can be folded of the wanted layers of a network, which is changed. It must be
    in evaluation mode, and is run on the images.

    Returns the path of each layer that is gone to that of what computes it, in the order in which
    they were folded, and the path of each that stays to the reason.
    """
    folded: dict[str, str] = {}
    while True:
        layers = {path: layer for path, layer in _of_kind(model).items() if wanted(path)}
        record = _record(model, images, layers)
        if not (found := record.pairs()):
            return folded, record.reasons()
        fold_into(model, found)
        folded |= found


def _in_float64(model: nn.Module, images: Tensor) -> tuple[nn.Module, list[Tensor]]:
    exact = copy.deepcopy(model).double().eval()
    try:
        return exact, _outputs(exact, images.double())
    except Exception as error:  # a network of somebody's own may raise anything
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{type(model).__name__} cannot be run in float64 on images of shape "
            f"{tuple(images.shape)}, so its folding could not be proven: {told(error)}."
        ) from error


def _outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found = tree_leaves(model(images))
    tensors = [leaf for leaf in found if isinstance(leaf, Tensor)]
    if not tensors or len(tensors) < sum(leaf is not None for leaf in found):
        raise InputError(
            f"{type(model).__name__} gives something else than tensors, so it could not be "
            "compared with what is folded."
        )
    return tensors


def _largest_difference(before: list[Tensor], after: list[Tensor]) -> float:
    if [one.shape for one in before] != [one.shape for one in after]:
        return float("inf")
    apart = [
        float((a.double() - b.double()).abs().max())
        for a, b in zip(before, after, strict=True)
        if a.numel()
    ]
    # A value that is no number has to fail: max() may pass it over.
    return max(apart, default=0.0) if all(one == one for one in apart) else float("nan")


def _of_kind(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that are a scale and a shift, and those that may be taken for one, by their paths."""
    kinds: tuple[type[nn.Module], ...] = (*AFFINE, nn.modules.batchnorm._NormBase)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def _is_watched(module: nn.Module) -> bool:
    return "forward" in module.__dict__ or any(module.__dict__[name] for name in _WATCHING)


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What is computed with the output of each convolution and linear layer in one pass.

    Outputs are kept until the end, so that no other tensor takes their place in memory.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model, self.layers = model, layers
        self.weighted = {
            name: module for name, module in model.named_modules() if isinstance(module, _Weighted)
        }
        self.watched = {
            name
            for name, module in [*layers.items(), *self.weighted.items()]
            if _is_watched(module)
        }
        self.calls: Counter[str] = Counter()
        self.outputs: dict[str, Tensor] = {}
        self.made_by: dict[int, str] = {}
        """Place in memory to the last of them that made it."""
        self.follows: dict[str, str] = {}
        self.users: dict[str, set[str]] = {name: set() for name in self.weighted}
        self.inside: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self._use(leaf, self.inside[-1] if self.inside else str(func))
        return func(*args, **(kwargs or {}))

    def _use(self, value: Any, by: str) -> None:
        maker = self.made_by.get(_place(value)) if isinstance(value, Tensor) else None
        if maker is not None and by != maker:
            self.users[maker].add(by)

    def entered(self, name: str, given: tuple[Any, ...]) -> None:
        """A layer or a convolution is called."""
        self.calls[name] += 1
        if name in self.layers:
            for maker, output in self.outputs.items():
                if given and given[0] is output:
                    self.follows[name] = maker
                    self._use(output, name)
        self.inside.append(name)

    def left(self, name: str, output: Any) -> None:
        """And has given its output."""
        self.inside.pop()
        if name in self.weighted and isinstance(output, Tensor):
            self.outputs[name] = output
            self.made_by[_place(output)] = name

    def ended(self, output: Any) -> None:
        """The pass is over: what still has an output may use it."""
        for leaf in tree_leaves(output):
            self._use(leaf, "the output of the network")
        for module in self.model.modules():
            for value in vars(module).values():
                self._use(value, "an attribute of the network")

    def pairs(self) -> dict[str, str]:
        """What can be folded, into what."""
        return {name: self.follows[name] for name in self.layers if not self._why_not(name)}

    def reasons(self) -> dict[str, str]:
        """Why the others cannot."""
        return {name: self._why_not(name) for name in self.layers}

    def _why_not(self, name: str) -> str:
        layer = self.layers[name]
        if type(layer) not in AFFINE:
            return f"is {type(layer).__name__}, not known as a scale and a shift in evaluation"
        if name in self.watched:
            return "has hooks or a forward of its own"
        if scale_and_shift(layer) is None:
            return "has no running statistics, so in evaluation it uses those of the batch"
        if self.calls[name] != 1:
            return _used(self.calls[name])
        maker = self.follows.get(name)
        if maker is None:
            return "does not take the output of a convolution or a linear layer"
        before = self.weighted[maker]
        if type(before) not in (*_PLAIN, *_TRANSPOSED):
            return f"follows {maker}, whose class {type(before).__name__} may compute anything"
        if maker in self.watched:
            return f"follows {maker}, which has hooks or a forward of its own"
        if self.calls[maker] != 1:
            return f"follows {maker}, which {_used(self.calls[maker])}"
        others = sorted(self.users[maker] - {name})
        if others:
            return f"follows {maker}, whose output is also used by {others[0]}"
        if self.outputs[maker].dim() != before.weight.dim():
            return f"follows {maker}, whose output has its channels at another place"
        return ""


def _used(times: int) -> str:
    return f"is used {times} times" if times else "is not used for these images"


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _record(model: nn.Module, images: Tensor, layers: Mapping[str, nn.Module]) -> _Record:
    """One pass over the images."""
    record = _Record(model, layers)
    with torch.no_grad(), _observed(record), record:
        output = model(images)
    record.ended(output)
    return record


@contextmanager
def _observed(record: _Record) -> Iterator[None]:
    def entering(name: str) -> Any:
        return lambda _, given: record.entered(name, given)

    def leaving(name: str) -> Any:
        return lambda _, __, output: record.left(name, output)

    handles = []
    for name, module in {**record.weighted, **record.layers}.items():
        handles.append(module.register_forward_pre_hook(entering(name)))
        handles.append(module.register_forward_hook(leaving(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def fold_into(model: nn.Module, pairs: Mapping[str, str]) -> None:
    """Fold layers into what comes before them, by their paths. An identity takes their place."""
    gone: dict[int, nn.Module] = {}
    for name, maker in pairs.items():
        layer = model.get_submodule(name)
        before = cast("_Weighted", model.get_submodule(maker))
        found = scale_and_shift(layer)
        assert found is not None
        scale, shift = found
        weight = before.weight.detach().double()
        start = shift if before.bias is None else scale * before.bias.double() + shift
        trained = before.weight.requires_grad
        before.weight = nn.Parameter(
            _scaled(before, weight, scale).to(before.weight), requires_grad=trained
        )
        before.bias = nn.Parameter(start.to(before.weight), requires_grad=trained)
        gone[id(layer)] = nn.Identity().train(layer.training)
    exchanged(model, gone)


def _scaled(before: nn.Module, weight: Tensor, scale: Tensor) -> Tensor:
    """Filters times the scale of their output channel."""
    if isinstance(before, _TRANSPOSED):
        # (inputs, outputs / groups, ...): inputs and outputs are cut into groups in the same order.
        groups = before.groups
        inputs, outputs, *size = weight.shape
        by_group = weight.view(groups, inputs // groups, outputs, *size)
        factors = scale.view(groups, 1, outputs, *(1 for _ in size))
        return (by_group * factors).view(weight.shape)
    return weight * scale.view(-1, *(1 for _ in weight.shape[1:]))


def _filtering(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and callable(getattr(module, "effective_weight", None)):
            yield name, module


def _watched_filters(model: nn.Module) -> dict[str, str]:
    return {name: "has hooks or a forward of its own" for name, _ in _filtering(model)}


@torch.no_grad()
def _plain(model: nn.Module) -> tuple[str, ...]:
    """Make convolutions with normalized weights plain, but those that are watched."""
    made: dict[int, nn.Module] = {}
    names = []
    for name, module in _filtering(model):
        if _is_watched(module):
            continue
        plain = plain_convolution(module)
        plain.weight.requires_grad_(module.weight.requires_grad)
        made[id(module)] = plain.train(module.training)
        names.append(name)
    exchanged(model, made)
    return tuple(names)


def _seconds(
    model: nn.Module, folded: nn.Module, images: Tensor, passes: int
) -> tuple[float, float]:
    """Median time of a pass of each, in evaluation, in turns: whatever slows the machine for a
    while slows both."""
    networks = [copy.deepcopy(network).eval() for network in (model, folded)]
    times: list[list[float]] = [[], []]
    with torch.inference_mode():
        for turn in range(_WARM_UP + passes):
            for network, spent in zip(networks, times, strict=True):
                start = time.perf_counter()
                network(images)
                if images.is_cuda:
                    torch.cuda.synchronize(images.device)
                if turn >= _WARM_UP:
                    spent.append(time.perf_counter() - start)
    before, after = map(statistics.median, times)
    return before, after
