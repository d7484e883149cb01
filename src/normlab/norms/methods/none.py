"""No normalization."""

from __future__ import annotations

from torch import Tensor, nn

from .._base import Norm2d
from .._core import NOTHING, Then, followed
from ..spec import NormSpec


class NoNorm2d(Norm2d):
    """The identity, as an arm of its own: ``y = x``.

    It has no parameters. The convolution before it needs a bias, since nothing here adds one.

    >>> import torch
    >>> x = torch.ones(2, 3, 4, 4)
    >>> NoNorm2d(3)(x) is x
    True

    Args:
        channels: C, checked against the input as in every other layer.

    Shapes:
        (N, C, H, W) to (N, C, H, W): the input itself.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        return followed(x, then)

    def _make_twin(self) -> nn.Module:
        return nn.Identity()

    def extra_repr(self) -> str:
        return f"{self.channels}"


SPEC = NormSpec(
    name="none",
    title="No normalization",
    family="without",
    layer=NoNorm2d,
    formula="x",
    axes=(),
    variance="",
    eps_place="",
    conv_bias=True,
    fails="Deep networks diverge, or need small learning rates.",
    twin=lambda channels: nn.Identity(),
)
