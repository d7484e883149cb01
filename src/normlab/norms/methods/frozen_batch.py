"""Batch normalization with frozen statistics and parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._base import Norm2d
from .._core import NOTHING, Then, normalize
from ..spec import NormSpec
from .batch_renorm import BatchRenorm2d
from .extended_batch import ExtendedBatchNorm2d
from .ghost_batch import GhostBatchNorm2d

_AS_BATCH_NORM = (
    nn.modules.batchnorm._BatchNorm,
    BatchRenorm2d,
    ExtendedBatchNorm2d,
    GhostBatchNorm2d,
)
"""Batch normalization in evaluation, whatever they are in training."""


class FrozenBatchNorm2d(Norm2d):
    """Batch normalization as it is in evaluation, for good.

    All four tensors are buffers, so nothing of it is trained, and ``train()`` changes nothing::

        y = weight * (x - running_mean) / sqrt(running_var + eps) + bias

    It keeps what another training has found, as detectors do that are tuned on one or two images at
    a time. :meth:`from_batch_norm` takes it from a layer, and ``load_state_dict`` from the state
    dict of a layer or a network with batch normalization (the count of batches is left out).

    >>> trained = nn.BatchNorm2d(2)
    >>> _ = trained(torch.tensor([[1.0, 10.0], [3.0, 30.0]]).view(2, 2, 1, 1))
    >>> frozen = FrozenBatchNorm2d.from_batch_norm(trained)
    >>> x = torch.ones(3, 2, 4, 4)
    >>> torch.equal(frozen.train()(x), trained.eval()(x))
    True

    A new one has mean 0, variance 1, weight 1 and bias 0: all but the identity.

    Source: He, Zhang, Ren & Sun 2016, "Deep Residual Learning for Image Recognition", appendix A,
    where statistics are computed once before a detector is tuned, and the layers stay fixed.

    Departures from the paper: none. ``torchvision.ops.FrozenBatchNorm2d`` has the same buffers and
    the same default of eps; state dicts interchange.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        device: where buffers are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    weight: Tensor  # type: ignore[assignment]
    bias: Tensor  # type: ignore[assignment]
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, affine=False)
        del self.weight, self.bias
        for name in ("weight", "bias", "running_mean", "running_var"):
            start = torch.ones if name in ("weight", "running_var") else torch.zeros
            self.register_buffer(name, start(self.channels, device=device, dtype=dtype))

    @classmethod
    def from_batch_norm(cls, layer: nn.Module, *, trainable: bool = False) -> FrozenBatchNorm2d:
        """A frozen copy of a layer of batch normalization, PyTorch's or this package's; also of
        ghost, extended and batch renormalization, which are that in evaluation.

        Args:
            layer: has the statistics.
            trainable: freeze the statistics alone. ``weight`` and ``bias`` are then the layer's
                own parameters, the same objects.

        Raises:
            ValueError: it is no such layer, or has no running statistics.
        """
        mean, var = (getattr(layer, name, None) for name in ("running_mean", "running_var"))
        if not isinstance(layer, _AS_BATCH_NORM) or mean is None or var is None:
            raise ValueError(
                "from_batch_norm takes a layer of batch normalization that has running statistics, "
                f"got {layer!r:.200}."
            )
        made = cls(len(mean), layer.eps, device=mean.device, dtype=mean.dtype)
        with torch.no_grad():
            made.running_mean.copy_(mean)
            made.running_var.copy_(var)
            for name in ("weight", "bias"):
                own = getattr(layer, name)
                if own is not None and trainable:
                    delattr(made, name)
                    made.register_parameter(name, own)
                elif own is not None:
                    getattr(made, name).copy_(own)
        return made

    def reset_parameters(self) -> None:
        """Put all four back to where they start."""
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(self, name).fill_(float(name in ("weight", "running_var")))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any
    ) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        fixed = self.running_mean, self.running_var
        return normalize(x, self.weight, self.bias, (None,), self.eps, fixed=fixed, then=then)

    def extra_repr(self) -> str:
        said = f"{self.channels}, eps={self.eps}"
        return f"{said}, trainable=True" if self._parameters else said


SPEC = NormSpec(
    name="frozen_bn",
    title="Frozen batch normalization",
    family="batch",
    layer=FrozenBatchNorm2d,
    formula="weight * (x - running_mean) / sqrt(running_var + eps) + bias",
    axes=(),
    buffers=("weight", "bias", "running_mean", "running_var"),
    fails="Trained from scratch it is a network without normalization. It is made for networks "
    "that batch normalization has trained.",
    citation="He et al. 2016, Deep Residual Learning for Image Recognition",
)
