"""Layer normalization over channels and positions."""

from __future__ import annotations

from torch import Tensor, nn

from .._base import Norm2d, another_name_for
from .._core import NOTHING, Pool, Then, normalize
from ..spec import NormSpec


class LayerNormCHW(Norm2d, nn.GroupNorm):  # type: ignore[misc]  # weight may be None
    """Layer normalization of each image over all its channels and positions.

    With mean and biased variance over C, H and W of one image::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    with ``weight`` and ``bias`` per channel. Training and evaluation are the same.

    >>> import torch
    >>> y = LayerNormCHW(2)(torch.tensor([1.0, 1.0, 3.0, 3.0]).view(1, 2, 1, 2))
    >>> [round(value, 2) for value in y.flatten().tolist()]
    [-1.0, -1.0, 1.0, 1.0]

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equations 3 and 4.

    Departures from the paper: weight and bias per channel, not per element, so that the layer is
    not tied to one image size (this is group normalization with one group). It is not the layer
    norm of transformers and ConvNeXt, which takes statistics over C alone at each position.

    Args:
        channels: C.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses; one value per image.

    It stands in for ``torch.nn.GroupNorm(1, channels)`` as :class:`GroupNorm2d` does for others,
    and is a subclass of it. State dicts interchange. ``num_groups`` is 1 and cannot be set.
    """

    num_channels = another_name_for("channels")

    @property
    def num_groups(self) -> int:  # type: ignore[override]
        """1."""
        return 1

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        self._check_values(x, self.channels * x.shape[2] * x.shape[3], "per image")
        return normalize(x, self.weight, self.bias, (Pool(groups=1),), self.eps, then=then)

    def _make_twin(self) -> nn.Module:
        return nn.GroupNorm(1, self.channels, self.eps, self.affine)


SPEC = NormSpec(
    name="ln",
    title="Layer normalization over channels and positions",
    family="sample",
    layer=LayerNormCHW,
    axes=("CHW",),
    fails="One channel with large values scales all others of its image down.",
    citation="Ba, Kiros & Hinton 2016, Layer Normalization",
    twin=lambda channels: nn.GroupNorm(1, channels),
)
