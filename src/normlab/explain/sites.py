"""Where in a network maps are taken, and what their sum is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..models import ResNet, in_evaluation
from ..pages.words import counted
from .watching import Call, check_maps, logits_of, outputs_of, watch

_RELUS = ("relu1", "relu2")
_ROUNDING, _LEAST_DIGITS = 1000, 0.01


@dataclass(frozen=True)
class LastStage:
    """The stage of a network's last convolution.

    Attributes:
        site: path of the module whose output it ends with.
        convolution: path of the last convolution.
        size: (h, w) of the output of both.
        calls: how many outputs (N, C, h, w) the module has in one pass; the last one is meant.
    """

    site: str
    convolution: str
    size: tuple[int, int]
    calls: int

    @property
    def words(self) -> str:
        """Which output it is, and why."""
        height, width = self.size
        how = f" (its last of {self.calls} calls)" if self.calls > 1 else ""
        if self.site == self.convolution:
            return f"the output of {self.site}{how}, the last convolution: {height} × {width} cells"
        return (
            f"the output of {self.site}{how}: {height} × {width} cells, the last output of a "
            f"module with the height and width of the last convolution's ({self.convolution})"
        )


def last_stage(model: nn.Module, x: Tensor) -> LastStage:
    """Find the last convolution's stage by watching a forward pass.

    The last convolution is the 2D convolution (or transposed one) called last, of those that the
    logits depend on and whose output has more than one position; the one called last where no
    output has. Its stage ends with the last output of a module that has that output's height and
    width and that the logits depend on: what is pooled or flattened, where a module puts that out.
    What functions compute between modules (a ReLU, a sum, a concatenation) is seen only in the
    output of the module around them. Of modules that return the same tensor, the innermost counts.

    Args:
        model: a network from (N, C, H, W) to logits (N, classes). It is left as it was.
        x: normalized images, of which the first is used.

    Raises:
        InputError: no convolution that the logits depend on, or outputs that are not logits.
    """
    calls, logits = watch(model, x[:1])
    calls = _used([call for call in calls if call.has_maps], logits)
    called = [i for i, call in enumerate(calls) if _is_convolution(call.module)]
    if not called:
        raise InputError(
            f"{type(model).__name__} has no convolution with maps (N, C, h, w) that its logits "
            "depend on, so its last stage is not known. Give a site by its module path."
        )
    wide = [i for i in called if calls[i].output[0, 0].numel() > 1]
    start = (wide or called)[-1]
    size = calls[start].output.shape[2:]
    last = {call.path: _identity(call) for call in calls}
    seen: set[tuple[int, int]] = set()
    site = calls[start].path
    for index, call in enumerate(calls):
        # A path stands for the last call of its module, so another call's output has no name.
        if _identity(call) in seen or last[call.path] != _identity(call):
            continue
        seen.add(_identity(call))
        if index >= start and call.output.shape[2:] == size:
            site = call.path
    return LastStage(
        site,
        calls[start].path,
        (int(size[0]), int(size[1])),
        sum(call.path == site for call in calls),
    )


def last_stage_sites(model: nn.Module) -> tuple[str, ...]:
    """The outputs of both ReLUs of each of the n blocks of the last stage: 2n module paths, in
    the order in which they are computed.

    Raises:
        InputError: a network other than :class:`normlab.models.ResNet`, whose parts do not say
            what its stages are.
    """
    if not isinstance(model, ResNet):
        raise InputError(
            "The mean over the last stage is only defined for normlab.models.ResNet, got "
            f"{type(model).__name__}. Use last, or give a site by its module path."
        )
    return tuple(f"stages.2.{block}.{relu}" for block in range(model.n) for relu in _RELUS)


def last_site(model: nn.Module, x: Tensor) -> str:
    """Path of the module that :func:`last_stage` ends with.

    In :class:`normlab.models.ResNet` it is the second ReLU of the last block.

    Raises:
        InputError: as in :func:`last_stage`.
    """
    return last_stage(model, x).site


def resolve_site(model: nn.Module, word: str, x: Tensor) -> tuple[str, ...]:
    """Module paths that a word stands for.

    ``"last"`` is the end of the last convolution's stage (:func:`last_stage`); ``"mean"`` the 2n
    ReLU outputs of the last stage of :class:`normlab.models.ResNet`, whose maps are averaged; any
    other word is the path of a module with output (N, C, h, w), such as ``"stages.0.1.relu2"`` or
    ``"conv"``. A path is tried on the first of the images.

    Raises:
        InputError: a word that is none of these; ``"mean"`` for another network.
    """
    if word == "last":
        return (last_site(model, x),)
    if word == "mean":
        return last_stage_sites(model)
    with torch.no_grad(), in_evaluation(model), outputs_of(model, (word,)) as seen:
        logits_of(model, x[:1])
    check_maps(seen, (word,))
    return (word,)


def site_words(model: nn.Module, word: str, x: Tensor) -> str:
    """A sentence on where a word leads in a network, if that has to be said: which module
    ``"last"`` found and why, and that a module is called several times. Empty where it is known,
    as ``"last"`` is for :class:`normlab.models.ResNet`.
    """
    if word == "last" and not isinstance(model, ResNet):
        return f"Maps are taken at {last_stage(model, x).words}."
    if word in ("last", "mean"):
        return ""
    module = model.get_submodule(word)
    times = sum(call.module is module and call.has_maps for call in watch(model, x[:1])[0])
    if times < 2:
        return ""
    return f"{word} is called {counted(times, 'time')} in a pass. Maps are of the last call."


def averaged_for(model: nn.Module, site: str, x: Tensor) -> nn.Linear | nn.Conv2d | None:
    """The linear layer, or 1x1 convolution, that takes the mean over positions of a site's output A
    and puts out the logits, ``logits = W mean(A) + b``; None if there is none.

    This is computed on the images, not guessed from types: for each such layer of the right size,
    in float64, up to the rounding of the network's own computation. A layer whose weights are all 0
    fits wherever its maps come from.
    """
    with torch.no_grad(), in_evaluation(model), outputs_of(model, (site,)) as seen:
        logits = logits_of(model, x)
    maps = seen.get(site)
    if not isinstance(maps, Tensor) or maps.dim() != 4 or len(maps) != len(x):
        return None
    limit = min(_ROUNDING * torch.finfo(logits.dtype).eps, _LEAST_DIGITS)
    means, sizes = (part.double().mean((2, 3)) for part in (maps, maps.abs()))
    for module in reversed(list(model.modules())):
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        weight = module.weight.detach()
        bias = None if module.bias is None else module.bias.detach().double()
        if weight.shape[:2] != (logits.shape[1], means.shape[1]) or weight[0, 0].numel() != 1:
            continue
        weight = weight.flatten(1).double()
        largest = F.linear(sizes, weight.abs(), None if bias is None else bias.abs())
        off = (F.linear(means, weight, bias) - logits.double()).abs()
        # Where nothing is finite there is nothing to compare.
        if bool(((off <= limit * largest) | ~off.isfinite()).all()):
            return module
    return None


def in_logit_units(method: str, sites: tuple[str, ...], model: nn.Module, x: Tensor) -> bool:
    """Whether the cells of a map sum to the logit minus the classifier's bias.

    This holds for Grad-CAM and HiResCAM at a site alone whose output is averaged over positions for
    one linear layer, or 1x1 convolution, that puts out the logits (:func:`averaged_for`). There
    they are the same map: the gradient is w_k / (h w) at every cell. A cell's value is then its
    share of the logit. CAM is h w times that map: its mean is the logit minus the bias. Whether the
    site is one is computed on the images.
    """
    if method not in ("grad-cam", "hires-cam") or len(sites) != 1:
        return False
    return averaged_for(model, sites[0], x) is not None


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))


def _identity(call: Call) -> tuple[int, int]:
    return id(call.output), call.version


def _used(calls: list[Call], logits: Tensor) -> list[Call]:
    """Those whose outputs the logits depend on."""
    outputs = {id(call.output): call.output for call in calls if call.output.requires_grad}
    if not outputs or not logits.requires_grad:
        return []
    gradients = torch.autograd.grad(logits.sum(), list(outputs.values()), allow_unused=True)
    used = {one for one, gradient in zip(outputs, gradients, strict=True) if gradient is not None}
    return [call for call in calls if id(call.output) in used]
