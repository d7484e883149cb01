"""SkipInit: a residual branch that starts closed."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from .._base import Norm2d
from .._core import NOTHING, Then, followed, statistics_dtype, without_autocast
from ..places import Parts, Place
from ..spec import NormSpec
from .none import NoNorm2d


class SkipInit2d(Norm2d):
    """One learned factor for all values: ``y = scale * x``, with ``scale`` starting at 0.

    At the end of a residual branch it makes a block start as its shortcut.

    >>> layer = SkipInit2d(3)
    >>> bool(layer(torch.ones(2, 3, 4, 4)).any())
    False

    Source: De & Smith 2020, "Batch Normalization Biases Residual Blocks Towards the Identity
    Function in Deep Networks" (ReZero of Bachlechner et al. 2020 is the same factor).

    Departures from the paper: none in the layer. The network puts it at the end of each residual
    branch, before the sum and the ReLU that follows the sum; the authors' code has blocks with
    the ReLU before the convolutions.

    Args:
        channels: C, checked against the input as in every other layer.
        device: where the parameter is made.
        dtype: its type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. ``scale``: (1,). N may be 0.

    Raises:
        ValueError: input that :class:`Norm2d` refuses.
    """

    start: ClassVar[float] = 0.0
    scale: nn.Parameter

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, affine=False)
        self.scale = nn.Parameter(torch.full((1,), self.start, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.scale, self.start)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        with without_autocast(x):
            y = self._scaled(x).to(x.dtype)
        return followed(y, then)

    def _scaled(self, x: Tensor) -> Tensor:
        """In the type of statistics. x stays in its own, in which backward keeps it."""
        return x * self.scale.to(statistics_dtype(x))

    def extra_repr(self) -> str:
        return f"{self.channels}"


def on_the_branch(place: Place) -> type[nn.Module] | None:
    """The method's own layer at the end of a residual branch, nothing elsewhere."""
    return None if place.position == "last" else NoNorm2d


SPEC = NormSpec(
    name="skipinit",
    title="SkipInit",
    family="without",
    layer=SkipInit2d,
    formula="scale * x",
    axes=(),
    variance="",
    eps_place="",
    conv_bias=True,
    parts=Parts(layer=on_the_branch),
    fails="Learning rates that batch normalization allows with large batches are too large for it.",
    citation="De & Smith 2020, Batch Normalization Biases Residual Blocks Towards the Identity "
    "Function in Deep Networks",
)
