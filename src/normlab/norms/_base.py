"""What all layers here share: parameters, checks, printing."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from ..values import plain
from ._core import NOTHING, Then, followed, per_channel, statistics_dtype, without_autocast


@dataclass(frozen=True)
class ParameterNeeds:
    """What one parameter of a layer asks of the optimizer.

    A layer lists its needs in the class attribute ``optimizer_needs`` (parameter name to needs).
    The trainer honors them for any layer, including your own.

    >>> ParameterNeeds(lr_scale=10.0, weight_decay=False, clamp=(0.0, 1.0))
    ParameterNeeds(lr_scale=10.0, weight_decay=False, clamp=(0.0, 1.0), unit_clip=None)

    Attributes:
        lr_scale: factor on the learning rate.
        weight_decay: False exempts the parameter from weight decay, whatever the run says.
        clamp: closed interval to which the values are clamped after each optimizer step.
        unit_clip: the gradient of each unit is shortened to at most this share of the unit's own
            norm, which counts as 0.001 where it is less (adaptive gradient clipping of Brock et
            al. 2021). A unit is a row of the parameter, such as the filter of one output; a
            parameter of one dimension or none is one unit.

    Raises:
        ValueError: a scale that is negative or not finite, a ``weight_decay`` that is not a bool,
            a clamp that is not a pair ``(low, high)`` with ``low <= high``, or a share that is not
            a finite number above 0.
    """

    lr_scale: float = 1.0
    weight_decay: bool = True
    clamp: tuple[float, float] | None = None
    unit_clip: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.lr_scale) or not 0 <= self.lr_scale < math.inf:
            raise ValueError(
                f"lr_scale must be a finite number of at least 0, got {self.lr_scale!r}."
            )
        if not isinstance(self.weight_decay, bool):
            raise ValueError(f"weight_decay must be True or False, got {self.weight_decay!r}.")
        share = self.unit_clip
        if share is not None and not (_is_number(share) and 0 < share < math.inf):
            raise ValueError(f"unit_clip must be a finite number above 0, got {share!r}.")
        pair = self.clamp
        if pair is None:
            return
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(_is_number, pair)):
            raise ValueError(f"clamp must be a pair of numbers (low, high), got {pair!r}.")
        if not pair[0] <= pair[1]:
            raise ValueError(f"clamp must be (low, high) with low <= high, got {pair!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def positive(option: str, value: object) -> float:
    """The value of an option that is a number above 0.

    >>> positive("weight_eps", 1)
    1.0

    Raises:
        ValueError: it is something else.
    """
    value = plain(value)
    if not (_is_number(value) and 0 < value <= sys.float_info.max):  # type: ignore[operator]
        raise ValueError(f"{option} must be a number above 0, got {value!r:.60}")
    return float(value)  # type: ignore[arg-type]


def at_least(least: float, option: str, value: object) -> float:
    """The value of an option that is a number of at least ``least``.

    >>> at_least(0, "eps", 1)
    1.0

    Raises:
        ValueError: it is something else.
    """
    value = plain(value)
    if not (_is_number(value) and least <= value <= sys.float_info.max):  # type: ignore[operator]
        raise ValueError(f"{option} must be a number of at least {least:g}, got {value!r:.60}")
    return float(value)  # type: ignore[arg-type]


def whole(option: str, value: object, *, odd: bool = False) -> int:
    """The value of an option that is a whole number of at least 1, or such an odd one.

    >>> whole("window", 5, odd=True)
    5

    Raises:
        ValueError: it is something else.
    """
    value = plain(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not number or (odd and value % 2 == 0):  # type: ignore[operator]
        kind = "an odd whole number" if odd else "a whole number"
        raise ValueError(f"{option} must be {kind} of at least 1, got {value!r:.60}")
    return value  # type: ignore[return-value]


def yes_or_no(option: str, value: object) -> bool:
    """The value of an option that is True or False.

    Raises:
        ValueError: it is something else; text such as "no" would count as true.
    """
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{option} must be True or False, got {value!r:.60}")
    return value


def another_name_for(name: str) -> Any:
    """An attribute under the name that it has in torch.nn, to be read and set."""

    def read(layer: nn.Module) -> Any:
        return getattr(layer, name)

    def write(layer: nn.Module, value: Any) -> None:
        setattr(layer, name, value)

    return property(read, write, doc=f"The same as ``{name}``.")


def recorded(layer: nn.Module, x: fx.Proxy) -> Any:
    """One node of the graph that ``torch.fx`` records, as layers of torch.nn are."""
    tracer: Any = x.tracer
    path = tracer.path_of_module(layer)
    if not path:
        raise TraceError(
            f"{type(layer).__name__} is recorded by torch.fx as one node of a network. "
            "Trace the network that it is in."
        )
    return tracer.create_proxy("call_module", path, (x,), {})


class Norm2d(nn.Module):
    """Base of the layers.

    With ``affine`` there are a ``weight`` (starts at 1) and a ``bias`` (starts at 0) per channel.

    A family derives from this class and, where torch.nn has the layer, from that one too, so that
    tools that look for a type find it. Its own ``_normalized`` is what it computes.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters and buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), in the input's type and memory format. Statistics are
        float32 (float64 for float64 input).

    Raises:
        ValueError: an impossible argument; input that is not 4-D, floating-point, of C channels
            and with pixels.
    """

    optimizer_needs: ClassVar[Mapping[str, ParameterNeeds]] = {}
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        # Not super(): the constructor of torch.nn's layer would make its own parameters.
        nn.Module.__init__(self)
        channels = self.channels = whole("channels", channels)
        self.eps = at_least(0, "eps", eps)
        self.affine = yes_or_no("affine", affine)
        if self.affine:
            self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Put parameters, and running statistics if there are any, back to where they start."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return recorded(self, x)
        self._check(x)
        return self._normalized(x)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        raise NotImplementedError

    def with_relu(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``relu(self(x) + residual)``, past the hooks (see :func:`.fused.norm_relu`)."""
        self._check(x)
        return self._normalized(x, Then(residual, True))

    def twin(self) -> nn.Module:
        """The layer of torch.nn that computes the same, with this layer's own parameters and
        buffers (the same tensors, not copies) and its mode.

        For tools that go by a layer's exact type, and for ``torch.jit.script``.

        >>> from normlab.norms import GroupNorm2d
        >>> type(GroupNorm2d(16, groups=4).twin())
        <class 'torch.nn.modules.normalization.GroupNorm'>

        Raises:
            NotImplementedError: torch.nn has no such layer.
        """
        made = self._make_twin()
        for name, parameter in self._parameters.items():
            made.register_parameter(name, parameter)
        for name, buffer in self._buffers.items():
            made.register_buffer(name, buffer)
        return made.train(self.training)

    def _make_twin(self) -> nn.Module:
        raise NotImplementedError(f"torch.nn has no layer that computes {type(self).__name__}.")

    def __prepare_scriptable__(self) -> nn.Module:
        # Returning the twin would work, but PyTorch then exchanges the layer in the network that is
        # compiled, not only in the program.
        raise NotImplementedError(
            f"torch.jit.script cannot compile {type(self).__name__}. Use torch.export or "
            "torch.jit.trace, or compile a copy of the network that has the layer's twin() in its "
            "place."
        )

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(
                f"{type(self).__name__} expects input of shape (N, C, H, W), "
                f"got {x.dim()} dimensions: {tuple(x.shape)}"
            )
        if x.shape[1] != self.channels:
            raise ValueError(
                f"{type(self).__name__} was made for {self.channels} channels, "
                f"got {x.shape[1]} in input of shape {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} expects floating-point input, got {x.dtype}; "
                "convert it first, for example x.float()"
            )
        if x.shape[2] * x.shape[3] == 0:
            raise ValueError(f"{type(self).__name__} got maps without pixels: {tuple(x.shape)}")

    def _check_values(self, x: Tensor, values_per_set: int, what: str) -> None:
        """Refuse sets of one value: their variance is 0, so the output is the bias alone."""
        if values_per_set == 1:
            raise ValueError(
                f"{type(self).__name__} needs more than one value {what}, "
                f"got input of shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, affine={self.affine}"


class PlainNorm2d(Norm2d):
    """Base of layers whose formula is written in operations of PyTorch, and computed so.

    A layer writes :meth:`_formula` for float32 (float64 for float64 input). What it asks of sizes
    (:meth:`_check_values`, empty batches) it asks there, before it computes anything. Type and
    memory format of the output are those of the input.
    """

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        with without_autocast(x):
            y = self._formula(x.to(statistics_dtype(x))).to(x.dtype)
        return followed(y, then)

    def _formula(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _affine(self, y: Tensor, scale: Tensor | None = None) -> Tensor:
        """``weight * scale * y + bias``, weight and bias per channel, of what there is. The two
        factors become one first, which costs little where ``scale`` is smaller than ``y``."""
        if self.weight is not None:
            weight = per_channel(self.weight, y.dtype)
            scale = weight if scale is None else scale * weight
        if scale is not None:
            y = y * scale
        if self.bias is not None:
            y = y + per_channel(self.bias, y.dtype)
        return y
