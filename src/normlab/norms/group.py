"""Group normalization."""

from __future__ import annotations

from torch import Tensor

from ._base import Norm2d
from ._core import Pool, normalize


class GroupNorm2d(Norm2d):
    """Group normalization.

    The channels of each image are divided into G groups of neighbors. With mean and biased
    variance over the C/G channels and all positions of a group::

        y = weight * (x - mean) / sqrt(var + eps) + bias

    with ``weight`` and ``bias`` per channel. Training and evaluation are the same.

    >>> GroupNorm2d(64, channels_per_group=16)
    GroupNorm2d(64, groups=4, eps=1e-05, affine=True)

    Source: Wu & He 2018, "Group Normalization", equations 1 to 7.

    Departures from the paper: 8 groups by default, where the paper has 32, because the networks
    here begin with 16 channels.

    Args:
        channels: C.
        groups: G, which must divide C; 8 by default.
        channels_per_group: C/G, in place of ``groups``.
        eps: added to the variance inside the root.
        affine: learn ``weight`` and ``bias``.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: groups that do not divide the channels; input that :class:`Norm2d` refuses;
            one value per group.

    State dicts interchange with ``torch.nn.GroupNorm``.
    """

    def __init__(
        self,
        channels: int,
        groups: int | None = None,
        channels_per_group: int | None = None,
        eps: float = 1e-5,
        affine: bool = True,
    ) -> None:
        super().__init__(channels, eps, affine)
        if groups is not None and channels_per_group is not None:
            raise ValueError(
                f"Give groups or channels_per_group, not both (got {groups} and "
                f"{channels_per_group})"
            )
        if channels_per_group is not None:
            _divides(channels, "channels_per_group", channels_per_group)
            groups = channels // channels_per_group
        elif groups is None:
            groups = 8
        _divides(channels, "groups", groups)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        size = x.shape[2] * x.shape[3]
        self._check_values(x, self.channels // self.groups * size, "per group")
        return normalize(x, self.weight, self.bias, (Pool(groups=self.groups),), self.eps)[0]

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}, eps={self.eps}, affine={self.affine}"


def _divides(channels: int, name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or channels % value:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        raise ValueError(
            f"{name} must divide the {channels} channels, got {value!r}. "
            f"Possible here: {', '.join(map(str, divisors))}."
        )
