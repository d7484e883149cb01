"""Fixup: references and mistakes of its two layers and its convolution."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import FixupBias2d, NormSpec

from ..convolutions import mistake
from ..families import extra
from ..mutants import mutation
from ..reference import written

HERE = ["fixup"]
BIAS = ["fixup_bias"]


@written("fixup")
class ScaleAndBias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale + self.bias).to(x.dtype)


@written("fixup_bias")
class Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bias).to(x.dtype)


extra(
    NormSpec(
        name="fixup_bias",
        title="The bias of Fixup before an activation",
        family="without",
        layer=FixupBias2d,
        formula="x + bias",
        axes=(),
        variance="",
        eps_place="",
        kept=0.0,
    )
)


@mutation("state_is_declared", families=HERE, written=False)
class ScaleStartsAtZero(nn.Module):
    start = 0.0


@mutation("forward_matches_reference", families=HERE, written=False)
class BiasScaledToo(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        return (x + self.bias) * self.scale


@mutation("gradients_match_counterpart", families=HERE, written=False)
class BiasDetached(nn.Module):
    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias.detach() + 0 * self.bias


@mutation("state_is_declared", families=HERE, written=False)
class BiasForEachChannel(nn.Module):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.bias = nn.Parameter(torch.zeros(channels))

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias.view(1, -1, 1, 1)


@mutation("forward_matches_reference", families=BIAS, written=False)
class BiasSubtracted(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return 2 * x - super()._normalized(x, *then)


@mutation("state_is_declared", families=BIAS, written=False)
class BiasStartsAtOne(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        nn.init.ones_(self.bias)


@mutation("gradients_match_counterpart", families=BIAS, written=False)
class BiasLearnsTwice(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x, *then) + (self.bias - self.bias.detach()).to(x.dtype)


@mutation("keeps_what_its_spec_says", families=BIAS, written=False)
class InputKeptForNothing(nn.Module):
    def _normalized(self, x: Tensor, *then: Any) -> Tensor:
        return super()._normalized(x * (1 + 0 * self.bias), *then)


@mistake("output_is_that_of_a_plain_convolution", methods=HERE)
class PaddingHasTheBias(nn.Module):
    """Padded first, as if it were part of the image."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.padding
        padded = F.pad(x, (columns, columns, rows, rows)) + self.input_bias
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


@mistake("output_is_that_of_a_plain_convolution", methods=HERE)
class BiasOfTheOutput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - self.input_bias) + self.input_bias


@mistake("derivatives_match_finite_differences", methods=HERE)
class InputBiasDetached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.input_bias.detach() - self.input_bias)


@mistake("state_is_declared", methods=HERE)
class InputBiasForEachChannel(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.input_bias = nn.Parameter(torch.zeros(self.in_channels, 1, 1))


@mistake("state_is_declared", methods=HERE)
class InputBiasStartsAtOne(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        nn.init.ones_(self.input_bias)


@mistake("memory_format_is_kept", methods=HERE)
class FormatOfInputLost(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


@mistake("autocast_leaves_filters_alone", methods=HERE)
class AutocastSwitchedOff(nn.Module):
    """The network would then be float32 where every other is 16 bits."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)
