"""Instance normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import Norm2d, another_name_for
from .._core import NOTHING, Pool, Then, normalize
from ..spec import NormSpec


class InstanceNorm2d(Norm2d, nn.InstanceNorm2d):  # type: ignore[misc]  # weight may be None
    """Instance normalization.

    With mean and biased variance over the positions of one channel of one image::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    Training and evaluation are the same: there are no running statistics.

    >>> import torch
    >>> y = InstanceNorm2d(1)(torch.tensor([[1.0, 3.0], [10.0, 30.0]]).view(2, 1, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, 1.0, -1.0, 1.0]

    Source: Ulyanov, Vedaldi & Lempitsky 2016, "Instance Normalization: The Missing Ingredient for
    Fast Stylization".

    Args:
        channels: C.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; maps of one pixel; ``track_running_stats``
            was set to True.

    It stands in for ``torch.nn.InstanceNorm2d(channels, affine=True)``, which it is a subclass of,
    and state dicts interchange. Three things differ. ``affine`` is True by default, as for the
    other layers compared here. There are no running statistics to be asked for. An input without
    the batch's dimension is refused. Tools that ask for the exact type, and
    ``torch.jit.script``, need :meth:`twin`.
    """

    num_features = another_name_for("channels")

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Norm2d.__init__(self, channels, eps, affine, device=device, dtype=dtype)
        # What torch.nn's has without running statistics.
        self.momentum = 0.1
        self.track_running_stats = False
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, None)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        if self.track_running_stats:
            raise ValueError(
                "InstanceNorm2d keeps no running statistics; set track_running_stats to False"
            )
        self._check_values(x, x.shape[2] * x.shape[3], "per map")
        return normalize(
            x, self.weight, self.bias, (Pool(groups=self.channels),), self.eps, then=then
        )

    def _make_twin(self) -> nn.Module:
        return nn.InstanceNorm2d(self.channels, self.eps, affine=self.affine)


SPEC = NormSpec(
    name="in",
    title="Instance normalization",
    family="sample",
    layer=InstanceNorm2d,
    axes=("HW",),
    fails="Removes the contrast of each map, which classification often needs. Maps of one pixel "
    "have no variance and are refused.",
    citation="Ulyanov, Vedaldi & Lempitsky 2016, Instance Normalization",
    twin=lambda channels: nn.InstanceNorm2d(channels, affine=True),
)
