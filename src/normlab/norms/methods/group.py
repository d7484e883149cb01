"""Group normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...values import plain
from .._base import Norm2d, another_name_for
from .._core import NOTHING, Pool, Then, normalize
from ..spec import NormSpec


class GroupNorm2d(Norm2d, nn.GroupNorm):  # type: ignore[misc]  # weight may be None
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
        device: where parameters are made.
        dtype: their type.

    Shapes:
        (N, C, H, W) to (N, C, H, W), see :class:`Norm2d`. N may be 0.

    Raises:
        ValueError: groups that do not divide the channels; input that :class:`Norm2d` refuses;
            one value per group.

    It stands in for ``torch.nn.GroupNorm``, which it is a subclass of, and state dicts
    interchange. Three things differ. The arguments are the channels, then the groups. One value
    per group is refused for every batch, where PyTorch gives the bias for a batch of several
    images. ``torch.fx`` records the layer as one node of a network and cannot trace it alone.
    Tools that ask for the exact type, and ``torch.jit.script``, need :meth:`twin`.
    """

    num_channels = another_name_for("channels")
    num_groups = another_name_for("groups")

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
        Norm2d.__init__(self, channels, eps, affine, device=device, dtype=dtype)
        self.groups = number_of_groups(self.channels, groups, channels_per_group)

    def _normalized(self, x: Tensor, then: Then = NOTHING) -> Tensor:
        size = x.shape[2] * x.shape[3]
        self._check_values(x, self.channels // self.groups * size, "per group")
        return normalize(
            x, self.weight, self.bias, (Pool(groups=self.groups),), self.eps, then=then
        )

    def _make_twin(self) -> nn.Module:
        return nn.GroupNorm(self.groups, self.channels, self.eps, self.affine)

    def extra_repr(self) -> str:
        return f"{self.channels}, groups={self.groups}, eps={self.eps}, affine={self.affine}"


def number_of_groups(channels: int, groups: int | None, channels_per_group: int | None) -> int:
    """How many groups are asked for by one of the two; 8 by neither.

    Raises:
        ValueError: both are given, or the channels cannot be divided so.
    """
    groups, channels_per_group = plain(groups), plain(channels_per_group)
    if groups is not None and channels_per_group is not None:
        raise ValueError(
            f"Give groups or channels_per_group, not both (got {groups} and {channels_per_group})"
        )
    if channels_per_group is not None:
        _divides(channels, "channels_per_group", channels_per_group)
        groups = channels // channels_per_group
    elif groups is None:
        groups = 8
    _divides(channels, "groups", groups)
    return groups


def _divides(channels: int, name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or channels % value:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        raise ValueError(
            f"{name} must divide the {channels} channels, got {value!r}. "
            f"Possible here: {', '.join(map(str, divisors))}."
        )


SPEC = NormSpec(
    name="gn",
    title="Group normalization",
    family="sample",
    layer=GroupNorm2d,
    axes=("(C/G)HW",),
    fails="Often a little behind batch normalization where batches are large; the number of groups "
    "must divide every width of the network.",
    citation="Wu & He 2018, Group Normalization",
    twin=lambda channels, groups=8: nn.GroupNorm(groups, channels),
)
