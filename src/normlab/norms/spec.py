"""What a method is: its declarative description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from ._base import ParameterNeeds
from .places import Parts, options_of

Family = Literal["batch", "sample", "both", "weights", "without"]
"""Where a method takes its statistics: from the batch, from each sample, from both, from the
weights, or nowhere."""

FAMILIES: Mapping[Family, str] = MappingProxyType(
    {
        "batch": "Statistics of the batch",
        "sample": "Statistics of each image",
        "both": "Statistics of the batch and of each image",
        "weights": "Normalized weights",
        "without": "Without normalization",
    }
)
"""The families in the order of the pages, with their titles."""


@dataclass(frozen=True, kw_only=True)
class NormSpec:
    """What a normalization method is.

    The defaults describe a layer that standardizes each set of values, then scales and shifts
    it per channel, in training and evaluation alike.

    Attributes:
        name: the arm's name.
        title: the method's name in the literature.
        family: where its statistics come from.
        layer: the class that stands after a convolution.
        formula: the output as a function of the input. ``mean``, ``var`` and ``ms`` are the mean,
            variance and mean square of a value's set; where there are several kinds of sets,
            ``mean_AXES`` and so on are those over these axes, and ``xhat_AXES`` is
            ``(x - mean) / sqrt(var + eps)``. Parameters have their own names. The tests evaluate
            it, where it is an expression of these, ``sqrt``, ``exp``, ``tanh``, ``erf``,
            ``sigmoid``, ``max`` and ``min``.
        filters: the weight that the convolution uses, where it is a function of its parameter
            ``w``. ``mean``, ``var`` (divided by ``n``) and ``norm`` are those of the ``n`` values
            of a filter, the weights of one output.
        axes: the axes of (N, C, H, W) over which a set of statistics is taken, per part: ``(C/G)``
            for groups of channels, ``(N/G)`` for chunks of the batch.
        variance: divisor of the variance that normalizes, or "" if there is none.
        running_variance: divisor of the variance that is stored, or "" if none is.
        eps_place: where eps is added.
        momentum: which value the momentum weighs, or "".
        buffers: names of the state besides the parameters.
        evaluation: what evaluation does differently from training.
        conv_bias: whether the convolution before it needs a bias.
        parts: what it puts into a network besides the layer.
        kept: activations of the layer's input size that its backward needs at most, in float32; 1
            is the input alone. Of the layer only: what other parts keep comes on top, as the sum
            that Fixup's convolution takes.
        fails: when it is known to fail or to disappoint, in a sentence or two.
        citation: the paper, with its year.
        twin: makes the layer of torch.nn that computes the same and whose state dict
            interchanges, or None where torch.nn has none. Takes the number of channels, and
            those of the layer's options that change what it computes.
    """

    name: str
    title: str
    family: Family
    layer: type[nn.Module]
    formula: str = "weight * (x - mean) / sqrt(var + eps) + bias"
    filters: str = ""
    axes: tuple[str, ...]
    variance: str = "n"
    running_variance: str = ""
    eps_place: str = "inside the root"
    momentum: str = ""
    buffers: tuple[str, ...] = ()
    evaluation: str = "as in training"
    conv_bias: bool = False
    parts: Parts = field(default_factory=Parts)
    kept: float = 1.0
    fails: str = ""
    citation: str = ""
    twin: Callable[..., nn.Module] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the method with their defaults: the layer's, and those of its other parts."""
        return MappingProxyType({**self.parts.options(), **options_of(self.layer)})

    @property
    def optimizer_needs(self) -> Mapping[str, ParameterNeeds]:
        """What the parameters of its parts ask of the optimizer."""
        found: dict[str, ParameterNeeds] = {}
        for part in (self.layer, *self.parts.classes()):
            found |= getattr(part, "optimizer_needs", {})
        return MappingProxyType(found)


def tracking(spec: NormSpec, evaluation: str = "running statistics") -> NormSpec:
    """The spec of a layer that keeps running statistics of the batch, named as in torch.nn."""
    return replace(
        spec,
        running_variance="n - 1",
        momentum="the new value",
        buffers=("running_mean", "running_var", "num_batches_tracked"),
        evaluation=evaluation,
    )
