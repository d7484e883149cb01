"""Global response normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import Norm2d
from .._core import NOTHING, Then, followed, per_channel, statistics_dtype, without_autocast
from ..places import Parts, Place
from ..spec import NormSpec
from .pixel_ln import LayerNorm2d


class GlobalResponseNorm2d(Norm2d):
    """Global response normalization: channels of an image compete by their norms.

    With the L2 norm of each map, and its share of the mean norm of the image's channels::

        norm = sqrt(sum over H and W of x ** 2)
        share = norm / (mean over C of norm + eps)
        y = x + weight * x * share + bias

    with ``weight`` and ``bias`` per channel. Both start at 0, so the layer starts as the identity.
    Training and evaluation are the same.

    >>> import torch
    >>> layer = GlobalResponseNorm2d(2)
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(1.0)
    >>> y = layer(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))  # shares of 1/2 and 3/2
    >>> [round(value, 4) for value in y.flatten().tolist()]
    [1.5, 7.5]

    Source: Woo et al. 2023, "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked
    Autoencoders", section "Global Response Normalization". It follows the activation inside a
    block, and layer normalization over the channels of each pixel stands elsewhere.

    Departures from the paper: the network here has ReLU where ConvNeXt has GELU, and its residual
    blocks; the arm has :class:`LayerNorm2d` after every convolution and this layer after the ReLU
    of a block's first convolution. Unlike the authors' code (``GRN`` in ``models/utils.py``,
    ``eps`` 1e-6 as here), which has channels last, weight and bias have the shape (C,).

    Args:
        channels: C.
        eps: added to the mean norm.
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, device=device, dtype=dtype)
        nn.init.zeros_(self.weight)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        dtype = statistics_dtype(x)
        with without_autocast(x):
            # One factor for each map, so that backward keeps nothing but the input, in its type.
            factor = 1 + per_channel(self.weight, dtype) * self._share(x, dtype)
            y = (x * factor + per_channel(self.bias, dtype)).to(x.dtype)
        return followed(y, then)

    def _share(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True, dtype=dtype)
        return norm / (norm.mean(1, keepdim=True) + self.eps)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}"


class ReLUGlobalResponseNorm2d(GlobalResponseNorm2d):
    """Global response normalization after a ReLU: ``GlobalResponseNorm2d(C)(relu(x))``.

    Arguments, shapes and errors are those of :class:`GlobalResponseNorm2d`.
    """

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        return super()._normalized(x.relu(), then)


def _everywhere(_: Place) -> type[nn.Module]:
    return LayerNorm2d


def _activation(place: Place) -> type[nn.Module]:
    return ReLUGlobalResponseNorm2d if place.position == "inner" else nn.ReLU


SPEC = NormSpec(
    name="grn",
    title="Global response normalization, with layer normalization at each pixel",
    family="sample",
    layer=GlobalResponseNorm2d,
    formula="x + weight * x * norm / (mean_of_norms + eps) + bias",
    axes=("HW", "CHW"),
    variance="",
    eps_place="added to the mean of the norms",
    parts=Parts(layer=_everywhere, activation=_activation),
    kept=1.1,  # the input, and three numbers a map
    citation="Woo et al. 2023, ConvNeXt V2",
)
