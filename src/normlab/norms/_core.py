"""The one place where statistics are computed and scale and shift are applied.

Every family is the same three steps with other axes:

1. moments of each map: mean and biased variance over H and W, shape (N, C, 1, 1);
2. pooling them over the images of the batch, or over groups of channels of one image;
3. ``y = weight * (x - mean) / sqrt(var + eps) + bias``.

:func:`definition` writes this in plain differentiable PyTorch and is what the layers mean.
:class:`_Lean` computes the same values and gradients in fewer passes, keeping nothing but the
input (in its own type) and the pooled statistics for backward; eager mode uses it. Where it is
asked for (:mod:`.kernels`), float32 on a CPU goes through kernels in C instead. A compiler
decides by itself what to keep, so compiled and exported graphs use the definition, and so does
whatever differentiates, batches or records operations in its own way (``torch.func``, forward
mode, tracing). The tests compare both with each other and with a float64 loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import kernels as _kernels
from . import recompute as _recompute
from .synchronized import Division

_MAP = (2, 3)
_Given = TypeVar("_Given", Tensor, Tensor | None)


@dataclass(frozen=True)
class Pool:
    """Which maps share one mean and one variance.

    ``Pool(batch=True)`` pools channel c over all images (batch norm). ``Pool(groups=G)`` pools
    the channels of each of G groups within one image: G = C is instance norm, G = 1 layer norm.
    Maps have equal sizes, so pooled moments are plain averages. Averaging is a symmetric
    projection, which is why the same pooling serves forward and backward. ``divided`` says how
    several processes divide the batch; None where this one has all of it.
    """

    batch: bool = False
    groups: int = 1
    divided: Division | None = None

    @property
    def code(self) -> int:
        """This pool as the kernels know it."""
        return _kernels.BATCH if self.batch else self.groups

    def shape(self, x: Tensor) -> tuple[int, int, int, int]:
        """Of its statistics for an input, see :meth:`mean`."""
        return (1, x.shape[1], 1, 1) if self.batch else (x.shape[0], self.groups, 1, 1)

    def mean(self, t: Tensor) -> Tensor:
        """(N, C, 1, 1) -> one value per set: (1, C, 1, 1) or (N, G, 1, 1)."""
        if self.batch:
            return t.mean(0, keepdim=True)
        if self.groups == t.shape[1]:
            return t
        images, channels = t.shape[:2]
        return t.reshape(images, self.groups, channels // self.groups, 1, 1).mean(2)

    def means(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """:meth:`mean` of each."""
        if self.divided is not None:
            return self.divided.means(*tensors)
        return tuple(self.mean(t) for t in tensors)

    def spread(self, t: Tensor, channels: int) -> Tensor:
        """One value per set -> a tensor that broadcasts against (N, C, 1, 1)."""
        if self.batch or self.groups in (1, channels):
            return t
        return t.repeat_interleave(channels // self.groups, dim=1)

    def moments(self, mean: Tensor, rest: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moments of the sets from those of their maps (law of total variance, no cancellation).

        ``rest`` is what rounding left out of the maps' ``mean``. Returns mean and variance of each
        set, and ``mean`` minus the mean of its set for each map, which keeps the digits that a
        large mean has no room for.
        """
        if self.divided is not None:
            return self.divided.moments(mean, rest, var)
        channels = mean.shape[1]
        base = self.mean(mean)
        apart = mean - self.spread(base, channels)
        shift = self.mean(apart + rest)
        offset = apart - self.spread(shift, channels)
        return base + shift, self.mean(var + (offset + rest).square()), offset


class Then(NamedTuple):
    """What comes after a layer: the sum with ``residual``, if there is one, then ``relu``."""

    residual: Tensor | None = None
    relu: bool = False


NOTHING = Then()


def statistics_dtype(x: Tensor) -> torch.dtype:
    """float32 for 16-bit and float32 input, float64 for float64 input."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """The block computes in the types of its tensors. Where autocast is off, or a device such as
    meta has none, there is nothing to switch off, and nothing of it in an exported graph."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


class Tracking(Protocol):
    """What a training pass does with the batch's statistics."""

    @property
    def running(self) -> _kernels.Running | None:
        """What moves towards them, if that is all."""

    def move(self, mean: Tensor, var: Tensor) -> None:
        """By operations of PyTorch: given mean and biased variance, detached."""


class _Job:
    """What is asked of :class:`_Lean` besides tensors, and what it finds: the mean and variance of
    the first pool, unless running statistics have ``moved`` already; and where memory is saved, the
    ``factors`` that the output is made with."""

    __slots__ = (
        "codes", "eps", "factors", "fixed", "mean", "moved", "pools", "relu", "track", "var"
    )  # fmt: skip

    def __init__(
        self,
        pools: tuple[Pool | None, ...],
        eps: float,
        fixed: tuple[Tensor, Tensor] | None = None,
        *,
        relu: bool = False,
        track: Tracking | None = None,
    ) -> None:
        self.pools, self.eps, self.fixed, self.relu = pools, eps, fixed, relu
        self.codes = tuple([_kernels.FIXED if pool is None else pool.code for pool in pools])
        self.track = track
        self.mean: Tensor | None = None
        self.var: Tensor | None = None
        self.moved = track is None
        self.factors: tuple[Tensor, ...] = ()


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    pools: tuple[Pool | None, ...],
    eps: float,
    *,
    gate: Tensor | None = None,
    fixed: tuple[Tensor, Tensor] | None = None,
    then: Then = NOTHING,
    track: Tracking | None = None,
) -> Tensor:
    """Normalize ``x`` of shape (N, C, H, W).

    With one pool: ``weight * xhat + bias``. With two and a ``gate`` of shape (C,):
    ``weight * (gate * xhat_0 + (1 - gate) * xhat_1) + bias``. A pool that is None uses the
    ``fixed`` mean and variance, of shape (C,), which are constants to the gradient. What
    comes ``then`` is done to the output, and ``track`` is given the mean and biased variance of
    the first pool.

    Returns the output, in the type and memory format of ``x``.
    """
    if needs_plain_operations(x, weight, bias, gate):
        y, mean, var = definition(x, weight, bias, gate, fixed, pools, eps)
        y = followed(y, then)
        if track is not None:
            track.move(mean.detach(), var.detach())
        return y
    job = _Job(pools, eps, fixed, relu=then.relu, track=track)
    given = (x, weight, bias, gate, then.residual, job)
    out: Tensor = _Lean.apply(*given) if torch.is_grad_enabled() else _forward(*given)[0]  # type: ignore[no-untyped-call]
    if track is not None and not job.moved:
        assert job.mean is not None
        assert job.var is not None
        track.move(job.mean, job.var)
    return out


def followed(y: Tensor, then: Then) -> Tensor:
    """What comes after a layer, by operations of PyTorch."""
    if then.residual is not None:
        y = y + then.residual
    return y.relu() if then.relu else y


def _followed_there(y: Tensor, then: Then) -> Tensor:
    """The same in the memory of ``y``, which nobody else has."""
    residual = then.residual
    if residual is not None:
        alike = residual.dtype == y.dtype and residual.shape == y.shape
        y = y.add_(residual) if alike else y + residual
    return y.relu_() if then.relu else y


def behind_relu(g: Tensor, y: Tensor) -> Tensor:
    """The gradient before a ReLU whose output is ``y``, as PyTorch has it: NaN lets it pass."""
    return torch.where(y <= 0, 0, g)


def needs_plain_operations(*inputs: Tensor | None) -> bool:
    """Whether something other than autograd's backward wants to see each operation."""
    return (
        torch.compiler.is_compiling()
        or _in_torch_func()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        # No level, no tangent: forward mode is not in use.
        or (forward_ad._current_level >= 0 and any(map(_has_tangent, inputs)))
    )


def _has_tangent(t: Tensor | None) -> bool:
    """Whether forward mode carries a derivative along with it."""
    return t is not None and forward_ad.unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]


def _in_torch_func() -> bool:
    """Whether ``torch.func`` transforms what runs: vmap, grad, jvp.

    ``torch.autograd.Function`` itself asks this; there is no public name.
    """
    return bool(torch._C._are_functorch_transforms_active())


def _is_batch_of_gradients(g: Tensor) -> bool:
    """Whether several gradients come as one (``is_grads_batched``, ``vectorize`` of autograd)."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(g))


def definition(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    fixed: tuple[Tensor, Tensor] | None,
    pools: Sequence[Pool | None],
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The readable definition: plain differentiable operations, see :func:`normalize`."""
    channels = x.shape[1]
    xs = x.to(statistics_dtype(x))
    map_mean = xs.mean(_MAP, keepdim=True)
    centred = xs - map_mean
    rest = _rest(centred).detach()  # 0 but for rounding, so its derivative is 0
    map_var = (centred - rest).square().mean(_MAP, keepdim=True)
    standardized, statistics = [], []
    for pool in pools:
        if pool is None:
            mean, var = _fixed_as_maps(fixed, xs.dtype)
            standardized.append((xs - mean) * torch.rsqrt(var + eps))
        else:
            mean, var, offset = pool.moments(map_mean, rest, map_var)
            rstd = torch.rsqrt(pool.spread(var, channels) + eps)
            standardized.append((centred + offset) * rstd)
        statistics.append((mean, var))
    if gate is None:
        (y,) = standardized
    else:
        rho = per_channel(gate, xs.dtype)
        y = rho * standardized[0] + (1 - rho) * standardized[1]
    if weight is not None:
        y = y * per_channel(weight, xs.dtype)
    if bias is not None:
        y = y + per_channel(bias, xs.dtype)
    return y.to(x.dtype), *statistics[0]


class _Lean(torch.autograd.Function):
    """:func:`definition` with a closed-form backward.

    With a = mean of g and b_k = mean of g * xhat_k over a map, w the weight, c_k the share of
    part k (1, or gate and 1 - gate), r_k = 1 / sqrt(var_k + eps) and P_k its pooling::

        dx = sum_k r_k * (w c_k g - P_k[w c_k a] - xhat_k * P_k[w c_k b_k])

    Without the P_k terms where the statistics are fixed. This is Ioffe & Szegedy (2015),
    section 3, for any pooling. A second derivative goes through the definition.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        gate: Tensor | None,
        residual: Tensor | None,
        job: _Job,
    ) -> Tensor:
        y, saved, kernels = _forward(x, weight, bias, gate, residual, job)
        if job.factors:
            _recompute.note(y, x, job.factors, residual, partial(_output, kernels, job.relu))
        ctx.save_for_backward(x, weight, gate, y if job.relu else None, *saved)
        ctx.residual = None if residual is None else (residual.shape, residual.dtype)
        ctx.bias, ctx.pools, ctx.eps = bias, job.pools, job.eps
        ctx.kernels, ctx.codes = kernels, job.codes
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 6
        x, weight, gate, y, *saved = ctx.saved_tensors
        again = torch.is_grad_enabled() or _in_torch_func() or _is_batch_of_gradients(g)
        if not again and ctx.kernels is not None and max(ctx.codes) != _kernels.FIXED:
            by_kernels = _backward_by_kernels(ctx, g, y, x, weight, gate, saved[0])
            if by_kernels is not None:
                return by_kernels
        pairs = _by_pool(ctx, x, saved)
        if again:
            fixed = next(((m.flatten(), v.flatten()) for pool, m, v in pairs if pool is None), None)
            g = g if y is None else behind_relu(g, y)
            found = _differentiate_definition(ctx, x, weight, gate, fixed, g)
            return *found, _of_residual(ctx, g), None
        g = g if y is None else torch.ops.aten.threshold_backward(g, y, 0)
        of_residual = _of_residual(ctx, g)
        channels, dtype = x.shape[1], statistics_dtype(x)
        statistics = [
            (mean, torch.rsqrt(second + ctx.eps))
            if pool is None
            else (pool.spread(mean, channels), pool.spread(second, channels))
            for pool, mean, second in pairs
        ]
        w = 1.0 if weight is None else per_channel(weight, dtype)
        g = g.to(dtype)
        # The last part has the smallest sets: their means are nearest to the values.
        pivot = statistics[-1][0]
        centred = x - pivot
        a = g.mean(_MAP, keepdim=True)
        gc = (g * centred).mean(_MAP, keepdim=True)

        g_scale: Tensor | float = 0.0
        x_scale: Tensor | float = 0.0
        shift: Tensor | float = 0.0
        b: list[Tensor] = []
        for pool, share, (mean, rstd) in zip(
            ctx.pools, _shares(gate, dtype), statistics, strict=True
        ):
            offset = pivot - mean
            b_k = rstd * (gc + offset * a)
            b.append(b_k)
            part = w * share
            g_scale = g_scale + part * rstd
            if pool is not None:
                pooled_a, pooled_b = (
                    pool.spread(t, channels) for t in pool.means(part * a, part * b_k)
                )
                x_scale = x_scale - rstd * rstd * pooled_b
                shift = shift - rstd * (pooled_a + offset * rstd * pooled_b)

        size = x.shape[2] * x.shape[3]
        needs_x, needs_weight, needs_bias, needs_gate = ctx.needs_input_grad[:4]
        dx = dweight = dbias = dgate = None
        if needs_x:
            if all(pool is None for pool in ctx.pools):
                # No part of x: a NaN or infinity in it stays there. In the memory of `centred`,
                # for its format.
                dx = torch.mul(g, g_scale, out=centred).to(x.dtype)
            else:
                dx = centred.mul_(x_scale).add_(g * g_scale).add_(shift).to(x.dtype)
        if needs_weight:
            mixed = sum(s * b_k for s, b_k in zip(_shares(gate, dtype), b, strict=True))
            dweight = (size * torch.as_tensor(mixed).sum(0)).flatten().to(weight.dtype)
        if needs_bias:
            dbias = (size * a.sum(0)).flatten().to(ctx.bias.dtype)
        if needs_gate:
            dgate = (size * (w * (b[0] - b[1])).sum(0)).flatten().to(gate.dtype)
        return dx, dweight, dbias, dgate, of_residual, None


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    residual: Tensor | None,
    job: _Job,
) -> tuple[Tensor, list[Tensor], _kernels.Kernels | None]:
    """The output, what backward needs, and the kernels that computed it, if they did."""
    kernels = _kernels.in_use()
    if (
        kernels is None
        or not _kernels.accepts(x, weight, bias, gate, *(job.fixed or ()))
        or any(code > 0 and x.shape[1] % code for code in job.codes)
        or any(pool is not None and pool.divided is not None for pool in job.pools)
    ):
        y, saved = _in_passes(x, weight, bias, gate, job)
        return _followed_there(y, Then(residual, job.relu)), saved, None
    added = None if residual is None else _kernels.laid_out_as(x, residual)
    inside = residual is None or added is not None
    y, kept = _by_kernels(kernels, x, weight, bias, gate, added, inside and job.relu, job)
    if not inside:
        y = followed(y, Then(residual, job.relu))
        job.factors = ()
    return y, [kept], kernels


def _output(
    kernels: _kernels.Kernels | None,
    relu: bool,
    x: Tensor,
    factors: tuple[Tensor, ...],
    residual: Tensor | None,
) -> Tensor:
    """The output of :func:`_forward` once more, in its bits."""
    if kernels is not None:
        added = None if residual is None else _kernels.laid_out_as(x, residual)
        return kernels.output(x, factors[0], added, relu)
    pivot, *rest = factors
    return _followed_there(_scaled(x - pivot, *rest).to(x.dtype), Then(residual, relu))


def _by_pool(ctx: Any, x: Tensor, saved: list[Tensor]) -> list[tuple[Pool | None, Tensor, Tensor]]:
    """What was saved of each pool: mean and 1 / sqrt(var + eps), or the mean and variance that are
    given."""
    if ctx.kernels is not None:  # which keep all in one tensor
        shapes = [Pool(batch=True) if pool is None else pool for pool in ctx.pools]
        both = [pool.shape(x) for pool in shapes for _ in range(2)]
        parts = torch.split(saved[0], [shape[0] * shape[1] for shape in both])
        saved = [part.view(shape) for part, shape in zip(parts, both, strict=True)]
    return list(zip(ctx.pools, saved[::2], saved[1::2], strict=True))


def _of_residual(ctx: Any, g: Tensor) -> Tensor | None:
    """The gradient of what was added to the output, of whatever shape that had."""
    if ctx.residual is None or not ctx.needs_input_grad[4]:
        return None
    shape, dtype = ctx.residual
    return g.sum_to_size(shape).to(dtype)


def _in_passes(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, gate: Tensor | None, job: _Job
) -> tuple[Tensor, list[Tensor]]:
    """Forward by operations of PyTorch: the output, and what backward needs of each pool (mean and
    1 / sqrt(var + eps) of its sets, or the mean and variance that are given)."""
    pools, eps, fixed = job.pools, job.eps, job.fixed
    if fixed is not None:
        # Copies, because a training pass before backward moves running statistics in place.
        fixed = fixed[0].clone(), fixed[1].clone()
    channels, dtype = x.shape[1], statistics_dtype(x)
    if all(pool is None for pool in pools):
        pivot, _ = _fixed_as_maps(fixed, dtype)
        centred = x - pivot
        rest = map_var = None
    else:
        # Passes of vectorized operations: exact for an offset of 1e4, and several times
        # faster on a CPU than torch.var_mean over the same axes.
        pivot = x.mean(_MAP, keepdim=True, dtype=dtype)
        centred = x - pivot
        rest = _rest(centred)
        map_var = ((centred * centred).mean(_MAP, keepdim=True) - rest * rest).clamp_min(0)
    scale: Tensor | float = 0.0
    shift: Tensor | float = 0.0
    saved, first = [], None
    for pool, share in zip(pools, _shares(gate, dtype), strict=True):
        if pool is None:
            mean, var = _fixed_as_maps(fixed, dtype)
            rstd = torch.rsqrt(var + eps)
            offset, spread_rstd = pivot - mean, rstd
            saved += [mean, var]
        else:
            assert rest is not None
            assert map_var is not None
            mean, var, offset = pool.moments(pivot, rest, map_var)
            rstd = torch.rsqrt(var + eps)
            spread_rstd = pool.spread(rstd, channels)
            saved += [mean, rstd]
        first = first or (mean, var)
        part = share * spread_rstd
        scale = scale + part
        shift = shift + part * offset
    if weight is not None:
        w = per_channel(weight, dtype)
        scale, shift = scale * w, shift * w
    if bias is not None:
        shift = shift + per_channel(bias, dtype)
    assert isinstance(scale, Tensor)
    assert isinstance(shift, Tensor)
    if _recompute.is_on():
        job.factors = (pivot, scale, shift)
    y = _scaled(centred, scale, shift).to(x.dtype)
    assert first is not None
    if not job.moved:
        job.mean, job.var = first[0].detach().clone(), first[1].detach().clone()
    return y, saved


def _scaled(centred: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Centred on the map's own mean, so that a large offset does not cancel between x * scale and
    shift. In place, because ``centred`` is ours."""
    return centred.mul_(scale).add_(shift)


def _by_kernels(
    kernels: _kernels.Kernels,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    job: _Job,
) -> tuple[Tensor, Tensor]:
    """Forward by the kernels, with what follows: the output, and what backward needs."""
    images, channels = x.shape[:2]
    sets = [images * code if code > 0 else channels for code in job.codes]
    saved = x.new_empty(2 * sum(sets))
    running = None if job.track is None else job.track.running
    job.moved = job.track is None or (running is not None and _kernels.can_move(running, x))
    var = None if job.moved else x.new_empty(sets[0])
    fixed = None if job.fixed is None else (_flat(job.fixed[0]), _flat(job.fixed[1]))
    if _recompute.is_on():
        job.factors = (x.new_empty(3, images, channels),)
    y = kernels.forward(
        x, _flat(weight), _flat(bias), _flat(gate), job.codes, fixed, job.eps, saved, residual,
        relu, var, running if job.moved else None, *job.factors,
    )  # fmt: skip
    if var is not None:
        shape = (job.pools[0] or Pool(batch=True)).shape(x)
        mean, second = saved[: 2 * sets[0]].clone().view(2, *shape)
        job.mean, job.var = mean, second if job.pools[0] is None else var.view(shape)
    return y, saved


def _backward_by_kernels(
    ctx: Any,
    g: Tensor,
    y: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    gate: Tensor | None,
    saved: Tensor,
) -> tuple[Tensor | None, ...] | None:
    """Backward by the kernels; None where they cannot read what came back to it."""
    bias = ctx.bias
    if ctx.residual not in (None, (x.shape, x.dtype)) or not _kernels.accepts(x, weight, gate):
        return None
    g_as_x = _kernels.laid_out_as(x, g)
    y_as_x = None if y is None else _kernels.laid_out_as(x, y)
    if g_as_x is None or (y is not None and y_as_x is None) or not _kernels.is_row(saved):
        return None
    needs = ctx.needs_input_grad[:5]
    dx, of_weight, of_bias, of_gate, of_residual = ctx.kernels.backward(
        g_as_x, y_as_x, x, _flat(weight), _flat(gate), ctx.codes, ctx.eps, saved, needs
    )
    return (
        dx,
        of_weight if weight is None else _as(weight, of_weight),
        of_bias if bias is None else _as(bias, of_bias),
        of_gate if gate is None else _as(gate, of_gate),
        of_residual,
        None,
    )


def _as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """The gradient in the type of its parameter."""
    if gradient is None or gradient.dtype is parameter.dtype:
        return gradient
    return gradient.to(parameter.dtype)


def _flat(t: _Given) -> _Given:
    """A parameter as the kernels read it."""
    if t is None or (t.dtype is torch.float32 and t.is_contiguous()):
        return t
    return t.to(torch.float32).contiguous()


def _differentiate_definition(
    ctx: Any,
    x: Tensor,
    weight: Tensor | None,
    gate: Tensor | None,
    fixed: tuple[Tensor, Tensor] | None,
    g: Tensor,
) -> tuple[Tensor | None, ...]:
    """First derivatives that can be differentiated again, or of several gradients at once."""
    again = torch.is_grad_enabled()
    needed = ctx.needs_input_grad[:4]
    with torch.enable_grad():
        # Views, so that an input computed from another (or the same as another) counts once.
        x = x.view_as(x)
        weight, bias, gate = (None if t is None else t.view_as(t) for t in (weight, ctx.bias, gate))
        y, _, _ = definition(x, weight, bias, gate, fixed, ctx.pools, ctx.eps)
        wanted = [
            t for t, n in zip((x, weight, bias, gate), needed, strict=True) if n and t is not None
        ]
        grads = iter(torch.autograd.grad(y, wanted, g, create_graph=again))
    return tuple(next(grads) if n else None for n in needed)


def _rest(centred: Tensor) -> Tensor:
    """Mean of maps that were centred: what rounding left out of the mean that was subtracted.

    For a constant map, or one far from 0, this matters: it is divided by sqrt(var + eps).
    """
    return centred.mean(_MAP, keepdim=True)


def _shares(gate: Tensor | None, dtype: torch.dtype) -> tuple[Tensor | float, ...]:
    if gate is None:
        return (1.0,)
    rho = per_channel(gate, dtype)
    return rho, 1 - rho


def per_channel(t: Tensor, dtype: torch.dtype) -> Tensor:
    return t.to(dtype).view(1, -1, 1, 1)


def _fixed_as_maps(
    fixed: tuple[Tensor, Tensor] | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    assert fixed is not None, "a pool of None needs fixed statistics"
    return per_channel(fixed[0], dtype), per_channel(fixed[1], dtype)
