"""Whether a map depends on what the network has learned: cascading randomization."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from ..errors import InputError
from ..keyed import key
from ..models import ResNet, drawn_by
from .grids import cell_grid
from .layers import Layer, layers_of
from .maps import explain_batch
from .placing import upsample
from .sites import last_site

Values = npt.NDArray[np.float64]

_GIVE = "Give a function that makes the network with new weights (fresh=...)."


@dataclass(frozen=True)
class RandomizationStep:
    """One step of the cascade.

    Attributes:
        layer: module path of the layer randomized last; "" before the first.
        maps: (N, h, w) float32, the network's maps at this step, as :func:`explain_batch` gives
            them.
        spearman: (N,), rank correlation of the absolute placed maps with those before the first
            step, over the pixels of an image; NaN if either is constant.
        pearson: (N,), correlation of the signed placed maps, likewise.
    """

    layer: str
    maps: npt.NDArray[np.float32]
    spearman: Values
    pearson: Values

    @property
    def mean_spearman(self) -> float:
        """Mean over the images that have a value; NaN if none has."""
        return _mean(self.spearman)

    @property
    def mean_pearson(self) -> float:
        """Mean over the images that have a value; NaN if none has."""
        return _mean(self.pearson)


def randomization_check(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    method: str = "grad-cam",
    sites: tuple[str, ...] | None = None,
    seed: int = 0,
    *,
    fresh: Callable[[int], nn.Module] | None = None,
) -> tuple[RandomizationStep, ...]:
    """Maps of the network while its layers are randomized from the classifier down.

    Layers are the convolutions, linear layers and all other modules with weights, in the reverse
    order of their first calls in a forward pass, which begins with the classifier. A normalization,
    or an activation with parameters, is randomized together with the layer whose output it takes.
    A randomized layer is as at the start of training with another seed: new weights, scale 1, shift
    0, running statistics of mean 0 and variance 1. So are all layers above it. A map that does not
    change does not show what was learned. Edges in the image, for example, can stay visible in it.
    Where a method starts with a classifier of zeros (Fixup), all maps are zero from the first step
    on, and correlations are NaN. Layers that the logits do not depend on are left out.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3.1 (cascading
    randomization) and 4.1 (rank correlation with absolute values). Departures: a convolution and
    its normalization are one layer; Pearson's correlation of the signed maps replaces rank
    correlation without absolute values, SSIM and HOG.

    Everything happens on a copy of the network; torch's generators are left alone.

    Args:
        model: the trained network.
        x: normalized images (N, C, S, S), on the network's device.
        targets: (N,) class indices.
        method: as in :func:`explain_batch`.
        sites: as in :func:`explain_batch`.
        seed: of the draws.
        fresh: makes the network with new weights, given a seed; what it draws from torch's global
            generator depends on the seed as well. It must not load trained weights. Without it,
            :class:`normlab.models.ResNet` is made anew, and the layers of any other network are
            randomized by their own ``reset_parameters``.

    Returns:
        The trained network's step, then one per layer. For :class:`normlab.models.ResNet` these
        are 6n + 3 in all (two more with projections).

    Raises:
        InputError: as :func:`explain_batch`; images that are not square; weights that cannot be
            made anew, or that ``fresh`` does not make anew; a fresh network that has not the same
            tensors.
    """
    if x.dim() == 4 and x.shape[2] != x.shape[3]:
        raise InputError(f"Images must be square, got {tuple(x.shape[2:])} pixels.")
    if sites is None:
        sites = (last_site(model, x),)
    grid = None
    steps: list[RandomizationStep] = []
    trained: tuple[Values, Values] | None = None
    for layer, randomized in _cascade(model, x, seed, fresh):
        maps = explain_batch(randomized, x, targets, method, sites).cpu().float().numpy()
        grid = grid or cell_grid(model, sites[-1], x)
        signed = upsample(maps, x.shape[-1], grid).astype(np.float64).reshape(len(x), -1)
        ranks: Values = rankdata(np.abs(signed), axis=1)
        trained = trained or (ranks, signed)
        steps.append(
            RandomizationStep(
                layer, maps, _correlation(ranks, trained[0]), _correlation(signed, trained[1])
            )
        )
    return tuple(steps)


def _cascade(
    model: nn.Module, x: Tensor, seed: int, fresh: Callable[[int], nn.Module] | None
) -> Iterator[tuple[str, nn.Module]]:
    """Name of the layer randomized last, and the network in that state."""
    randomized = copy.deepcopy(model)
    layers = layers_of(randomized, x)
    new = _made_anew(model, seed, fresh)
    yield "", randomized
    for layer in reversed(layers):
        if new is None:
            _reset(layer, randomized, seed)
        else:
            _take(layer, randomized, new)
        yield layer.name, randomized


def _made_anew(
    model: nn.Module, seed: int, fresh: Callable[[int], nn.Module] | None
) -> nn.Module | None:
    """A network with new weights, if there is a way to make one."""
    if fresh is None and not isinstance(model, ResNet):
        return None
    # Some layers, such as torch's own, draw from the global generator when they are created.
    with drawn_by(seed, "randomization", "layers"):
        again = key(seed, "randomization")
        if fresh is not None:
            new = fresh(again)
        else:
            assert isinstance(model, ResNet)
            new = ResNet(
                model.n, model.classes, model.norm, model.shortcut, model.in_channels, seed=again
            )
    here, there = (
        {name: tuple(tensor.shape) for name, tensor in _tensors(one)} for one in (model, new)
    )
    if differ := [name for name in {**here, **there} if here.get(name) != there.get(name)]:
        raise InputError(
            f"The fresh network has not the same tensors as the trained one: {_few(differ)}. Give "
            "a function that makes the same network with new weights."
        )
    return new


@torch.no_grad()
def _take(layer: Layer, randomized: nn.Module, new: nn.Module) -> None:
    """Put the tensors of a layer of the new network into the randomized one."""
    theirs = dict(_tensors(new))
    for part in layer.parts:
        for name, tensor in part.tensors(randomized):
            if name == part.weight and _is_same(tensor, theirs[name]):
                raise InputError(
                    f"The fresh network has the trained weights in {name}, so nothing would be "
                    "randomized there. Give a function that makes it with new weights."
                )
            tensor.copy_(theirs[name])


@torch.no_grad()
def _reset(layer: Layer, randomized: nn.Module, seed: int) -> None:
    """Let the modules of a layer draw their weights again."""
    with drawn_by(seed, "randomization", "layers", layer.name):
        for part in layer.parts:
            before = {name: tensor.clone() for name, tensor in part.tensors(randomized)}
            for path, module in part.modules(randomized):
                if not callable(reset := getattr(module, "reset_parameters", None)):
                    raise InputError(
                        f"{path or 'The network'} ({type(module).__name__}) has weights but no "
                        f"reset_parameters, so it cannot be randomized. {_GIVE}"
                    )
                reset()
            for name, tensor in part.tensors(randomized):
                if name == part.weight and _is_same(before[name], tensor):
                    raise InputError(
                        f"reset_parameters of {part.path or 'the network'} leaves {name} as it is, "
                        f"so it cannot be randomized. {_GIVE}"
                    )


def _is_same(old: Tensor, new: Tensor) -> bool:
    """Whether a drawn tensor was not drawn again."""
    values = new.flatten()
    return torch.equal(old, new.to(old)) and bool((values != values[0]).any())


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _correlation(a: Values, b: Values) -> Values:
    """Pearson's correlation of corresponding rows of (N, P); NaN where a row is constant."""
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore"):
        correlation: Values = (a * b).sum(1) / lengths
    return correlation


def _mean(values: Values) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
