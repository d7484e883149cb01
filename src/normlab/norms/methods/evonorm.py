"""EvoNorm-B0 and EvoNorm-S0: normalization and activation in one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._base import Norm2d, PlainNorm2d
from .._core import (
    NOTHING,
    Pool,
    Then,
    differentiate,
    gradients_see_operations,
    map_moments,
    needs_plain_operations,
    normalize,
    per_channel,
)
from ..places import Parts, Place
from ..spec import NormSpec
from .batch import BatchStatistics, batch_pool
from .group import number_of_groups

_PAUL = (
    "In a quick public comparison (Paul 2020, a small Inception network on CIFAR-10) behind batch "
    "normalization with ReLU."
)


class EvoNorm2dB0(BatchStatistics, PlainNorm2d):  # type: ignore[misc]  # weight may be None
    """EvoNorm-B0: normalization and activation in one.

    With the biased variance of a value's channel over the batch (NHW) and over its own map (HW)::

        y = weight * x / max(sqrt(var_NHW + eps), v * x + sqrt(var_HW + eps)) + bias

    ``v`` is learned per channel and starts at 1. In training the running variance moves by
    ``momentum`` towards the batch's biased variance; evaluation uses it in place of the batch's.
    The map's variance is always the image's own. No mean is subtracted, and none is kept.

    >>> layer = EvoNorm2dB0(1, eps=0.0)
    >>> y = layer(torch.tensor([[-1.0, 1.0], [-3.0, 3.0]]).view(2, 1, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-0.45, 0.45, -1.34, 0.5]
    >>> round(layer.running_var.item(), 2)  # 0.9 * 1 + 0.1 * 5
    1.4

    Source: Liu, Brock, Simonyan & Le 2020, "Evolving Normalization-Activation Layers", and the
    authors' code (tensorflow/tpu, models/official/resnet/resnet_model.py).

    In a network it takes the place of normalization and ReLU where these follow each other. Before
    the sum of a block, and on a shortcut, a scale and a shift per channel are all that stands there
    (:class:`ChannelAffine2d`), and ReLU follows the sum: so the authors' code has it for residual
    networks of the first version.

    Departures from the paper: in the authors' network the scale before the sum starts at 0, for
    batch normalization too; here it starts at 1, as for every arm. Maps of one pixel, which the
    authors' code takes, are refused. timm's layer has an eps of
    1e-3 by default and stores the unbiased variance; in float32 its values are the same otherwise.

    Args:
        channels: C.
        eps: added to both variances inside the roots.
        momentum: weight of the new value in the running variance, or None for the plain average.
        affine: learn ``weight`` and ``bias``. ``v`` is always learned.
        track_running_stats: keep the running variance. Without it evaluation uses the batch's.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. In evaluation N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; maps of one pixel; where the
            batch's variance is used, an empty batch.
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            eps,
            momentum,
            affine,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.register_buffer("running_mean", None)
        self.v = nn.Parameter(torch.ones(self.channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.v)

    def _formula(self, x: Tensor) -> Tensor:
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        fixed = None if self.training else self.running_var
        if fixed is None:
            self._check_batch(x)
        _, *of_map = map_moments(x)
        if fixed is None:
            mean, var, _ = batch_pool().moments(*of_map)
            self._track(x, mean.detach(), var.detach())
        else:
            var = per_channel(fixed, x.dtype)
        of_batch, over_map = torch.sqrt(var + self.eps), torch.sqrt(of_map[2] + self.eps)
        given = (x, self.v, of_batch, over_map, self.weight, self.bias)
        if needs_plain_operations(*given):
            return _divided(*given)
        y: Tensor = _Divided.apply(*given)  # type: ignore[no-untyped-call]
        return y

    def _track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """The biased variance is stored, and no mean."""
        if not self.training or not self.track_running_stats:
            return
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if self.running_var is not None:
                self._move(self.running_var, var)


def _divided(
    x: Tensor,
    v: Tensor,
    of_batch: Tensor,
    of_map: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """``weight * x / max(of_batch, v * x + of_map) + bias``, in plain differentiable operations."""
    y = x / torch.maximum(of_batch, per_channel(v, x.dtype) * x + of_map)
    if weight is not None:
        y = y * per_channel(weight, x.dtype)
    return y if bias is None else y + per_channel(bias, x.dtype)


class _Divided(torch.autograd.Function):
    """:func:`_divided`, which keeps x alone of its size, with a closed-form backward.

    With d the divisor, G = weight * g and h = -G * x / d^2, which is the gradient of d::

        dx = G / d + v * h    where the map's term is the larger, else G / d

    and the gradients of the two terms and of v are sums of h over where each is the larger. A
    second derivative goes through the plain operations.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor,
        of_batch: Tensor,
        of_map: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(x, v, of_batch, of_map, weight)
        ctx.bias = bias
        gated = torch.mul(x, per_channel(v, x.dtype)).add_(of_map)
        y = torch.div(x, torch.maximum(gated, of_batch, out=gated), out=gated)
        if weight is not None:
            y.mul_(per_channel(weight, x.dtype))
        if bias is not None:
            y.add_(per_channel(bias, x.dtype))
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, v, of_batch, of_map, weight = ctx.saved_tensors
        if gradients_see_operations(g):
            return differentiate(ctx, _divided, (x, v, of_batch, of_map, weight, ctx.bias), g)
        wide = per_channel(v, x.dtype)
        gated = torch.mul(x, wide).add_(of_map)
        gates = gated > of_batch
        d = torch.maximum(gated, of_batch, out=gated)
        dweight = dbias = None
        if ctx.bias is not None:
            dbias = g.sum((0, 2, 3)).to(ctx.bias.dtype)
        if weight is not None:
            dweight = (g * x).div_(d).sum((0, 2, 3)).to(weight.dtype)
            g = g * per_channel(weight, x.dtype)
        dx = g / d
        h = (dx * x).div_(d).neg_()
        through = h * gates
        dv = (through * x).sum((0, 2, 3)).to(v.dtype)
        d_map = through.sum((2, 3), keepdim=True)
        d_batch = None
        if ctx.needs_input_grad[2]:
            d_batch = (h.sum((2, 3), keepdim=True) - d_map).sum(0, keepdim=True)
        return torch.addcmul(dx, through, wide, out=dx), dv, d_batch, d_map, dweight, dbias


class EvoNorm2dS0(PlainNorm2d):
    """EvoNorm-S0: normalization and activation in one, each image by itself.

    The channels of each image are divided into G groups of neighbours. With the biased variance
    over the C/G channels and all positions of a group::

        y = weight * x * sigmoid(v * x) / sqrt(var + eps) + bias

    ``v`` is learned per channel and starts at 1. No mean is subtracted from x. Training and
    evaluation are the same.

    >>> layer = EvoNorm2dS0(2, groups=1, eps=0.0)
    >>> y = layer(torch.tensor([-2.0, 0.0, 0.0, 2.0]).view(1, 2, 1, 2))
    >>> [round(value, 3) for value in y.flatten().tolist()]  # the deviation is sqrt(2)
    [-0.169, 0.0, 0.0, 1.246]

    Source: Liu, Brock, Simonyan & Le 2020, "Evolving Normalization-Activation Layers", and the
    authors' code (tensorflow/tpu, models/official/resnet/resnet_model.py).

    In a network it stands where :class:`EvoNorm2dB0` does.

    Departures from the paper: 8 groups by default, where the authors' code has 32 or the next
    smaller number that divides the channels, because the networks here begin with 16 channels.
    timm's layer has 32 groups by default; in float32 its values are the same otherwise.

    Args:
        channels: C.
        groups: G, which must divide C; 8 by default.
        channels_per_group: C/G, in place of ``groups``.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``. ``v`` is always learned.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: groups that do not divide the channels; input that :class:`Norm2d` refuses;
            one value per group.
    """

    def __init__(
        self,
        channels: int,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine, device=device, dtype=dtype)
        self.groups = number_of_groups(self.channels, groups, channels_per_group)
        self.v = nn.Parameter(torch.ones(self.channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.v)

    def _formula(self, x: Tensor) -> Tensor:
        size = x.shape[2] * x.shape[3]
        self._check_values(x, self.channels // self.groups * size, "per group")
        _, *of_map = map_moments(x)
        pool = Pool(groups=self.groups)
        _, var, _ = pool.moments(*of_map)
        scale = pool.spread(torch.rsqrt(var + self.eps), self.channels)
        gated = x * torch.sigmoid(x * per_channel(self.v, x.dtype))
        return self._affine(gated, scale)

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}, eps={self.eps}, affine={self.affine}"


class ChannelAffine2d(Norm2d):
    """A scale and a shift per channel: ``y = weight * x + bias``.

    What an EvoNorm leaves of itself where no activation may stand.

    >>> layer = ChannelAffine2d(1)
    >>> _ = layer.weight.data.fill_(2.0)
    >>> layer(torch.tensor([1.0, -3.0]).view(1, 1, 1, 2)).flatten().tolist()
    [2.0, -6.0]

    Args:
        channels: C.
        affine: False makes it the identity.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    def __init__(
        self,
        channels: int,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, 0.0, affine, device=device, dtype=dtype)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        # Statistics that change nothing: one pass, which keeps x alone.
        dtype = torch.promote_types(x.dtype, torch.float32)
        of_nothing = x.new_zeros(self.channels, dtype=dtype), x.new_ones(self.channels, dtype=dtype)
        return normalize(x, self.weight, self.bias, (None,), 0.0, fixed=of_nothing, then=then)

    def extra_repr(self) -> str:
        return f"{self.channels}, affine={self.affine}"


def _layer(place: Place) -> type[nn.Module] | None:
    return None if place.position in ("stem", "inner") else ChannelAffine2d


def _activation(place: Place) -> type[nn.Module]:
    return nn.ReLU if place.position == "last" else nn.Identity


_PARTS = Parts(layer=_layer, activation=_activation)
_CITATION = "Liu, Brock, Simonyan & Le 2020, Evolving Normalization-Activation Layers"

B0 = NormSpec(
    name="evonorm_b0",
    title="EvoNorm-B0, normalization and activation in one",
    family="both",
    layer=EvoNorm2dB0,
    formula="weight * x / max(sqrt(var_NHW + eps), v * x + sqrt(var_HW + eps)) + bias",
    axes=("NHW", "HW"),
    running_variance="n",
    momentum="the new value",
    buffers=("running_var", "num_batches_tracked"),
    evaluation="running variance for the batch's, the image's own for the map's",
    parts=_PARTS,
    kept=2.0,
    fails=f"Batches of a few images give a noisy variance, and evaluation has another. {_PAUL}",
    citation=_CITATION,
)

S0 = NormSpec(
    name="evonorm_s0",
    title="EvoNorm-S0, normalization and activation in one",
    family="sample",
    layer=EvoNorm2dS0,
    formula="weight * x * sigmoid(v * x) / sqrt(var + eps) + bias",
    axes=("(C/G)HW",),
    parts=_PARTS,
    kept=4.0,
    fails=_PAUL,
    citation=_CITATION,
)
