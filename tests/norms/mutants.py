"""Layers with one planted mistake each, and the check that must find it.

Most mistakes are planted in :class:`Written`, a second, plain implementation with one small
method for every decision; without a mutation it passes the checks (see ``test_mutations``), so
what a check finds is the mutation. Mistakes that need the real layer are planted there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from normlab.norms import ParameterNeeds

from .families import FAMILIES, SEVEN, Family


class Written(nn.Module):
    """Any of the layers, in float64 and without economy."""

    family: ClassVar[Family]

    def forward(self, x: Tensor) -> Tensor:
        xs = self.prepare(x)
        parts = []
        for axes in self.axes():
            by_batch = "N" in axes and self.family.has_running_statistics
            if by_batch and not self.training:
                mean, var = self.in_evaluation(xs, axes)
            else:
                mean, var = self.moments(xs, axes)
                if by_batch:
                    self.track(xs, mean.detach(), var.detach())
            parts.append(self.standardize(xs, mean, var))
        return self.scale_and_shift(self.mix(parts)).to(x.dtype)

    def prepare(self, x: Tensor) -> Tensor:
        return x.double()

    def axes(self) -> tuple[str, ...]:
        return self.family.spec.axes

    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        return over(axes, self.family.groups, x, self.mean, self.variance)

    def mean(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.mean(dims, keepdim=True)

    def variance(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return (x - x.mean(dims, keepdim=True)).square().mean(dims, keepdim=True)

    def standardize(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (x - mean) / torch.sqrt(var + self.epsilon())

    def epsilon(self) -> float:
        return self.eps

    def in_evaluation(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        return per_channel(self.running_mean), per_channel(self.running_var)

    @torch.no_grad()
    def track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        self.count()
        m = self.share_of_new()
        count = x.shape[0] * x.shape[2] * x.shape[3]
        new = self.stored_variance(var, count)
        for running, value in ((self.running_mean, mean), (self.running_var, new)):
            running.copy_((1 - m) * running.double() + m * value.flatten())

    def count(self) -> None:
        self.num_batches_tracked += 1

    def share_of_new(self) -> float:
        if self.momentum is None:
            return 1 / self.num_batches_tracked.item()
        return self.momentum

    def stored_variance(self, var: Tensor, count: int) -> Tensor:
        return var * count / (count - 1)

    def mix(self, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        rho = self.open_share()
        return rho * parts[0] + (1 - rho) * parts[1]

    def open_share(self) -> Tensor:
        return per_channel(self.gate)

    def scale_and_shift(self, y: Tensor) -> Tensor:
        if self.weight is not None:
            y = y * per_channel(self.weight)
        if self.bias is not None:
            y = y + per_channel(self.bias)
        return y


def per_channel(t: Tensor) -> Tensor:
    return t.double().view(1, -1, 1, 1)


def over(
    axes: str, groups: int, x: Tensor, *functions: Callable[[Tensor, tuple[int, ...]], Tensor]
) -> tuple[Tensor, ...]:
    """Statistics over named axes, in a shape that broadcasts against x.

    ``(C/G)`` are groups of neighbours; ``(C%G)`` is the mistake of dealing channels out in turn.
    """
    if "(" not in axes:
        dims = tuple("NCHW".index(letter) for letter in axes)
        return tuple(f(x, dims) for f in functions)
    in_turn = "%" in axes
    size = x.shape[1] // groups
    cut = x.unflatten(1, (size, groups) if in_turn else (groups, size))
    dims = (1 if in_turn else 2, *("NGCHW".index(letter) for letter in axes[5:]))
    return tuple(f(cut, dims).expand(-1, *cut.shape[1:3], -1, -1).flatten(1, 2) for f in functions)


@dataclass(frozen=True)
class Mutation:
    """One mistake: the class that plants it, where, and which checks must find it."""

    name: str
    plant: type[nn.Module]
    written: bool
    families: tuple[str, ...]
    caught_by: tuple[str, ...]

    def applied_to(self, family: Family) -> type[nn.Module]:
        """The layer of the family with the mistake in it."""
        return with_mistake(family, *([self.plant, Written] if self.written else [self.plant]))


def with_mistake(family: Family, *plants: type[nn.Module]) -> type[nn.Module]:
    name = "".join(plant.__name__ for plant in plants)
    return type(name, (*plants, family.spec.layer), {"family": family})


MUTATIONS: list[Mutation] = []


def _names(of: Callable[[Family], bool]) -> tuple[str, ...]:
    return tuple(name for name in SEVEN if of(FAMILIES[name]))


ALL = SEVEN
NORMALIZING = _names(lambda family: family.standardizes)
"""Those that :class:`Written` can stand for."""
RUNNING = _names(lambda family: family.standardizes and family.has_running_statistics)
SAMPLE = _names(lambda family: family.standardizes and not family.has_running_statistics)
STATELESS = _names(lambda family: not family.has_running_statistics)
GATED = _names(lambda family: family.has_gate)
GROUPED = _names(lambda family: family.standardizes and family.groups > 1)
WITH_TWIN = _names(lambda family: family.spec.twin is not None)


def mutation(
    *caught_by: str, families: Iterable[str] = NORMALIZING, written: bool = True
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter the class below, planted in :class:`Written` or (written=False) in the real layer."""

    def enter(plant: type[nn.Module]) -> type[nn.Module]:
        MUTATIONS.append(Mutation(plant.__name__, plant, written, tuple(families), caught_by))
        return plant

    return enter


# ---------------------------------------------------------------------------------------------
# The formula.


@mutation("forward_matches_reference", "output_moments_are_exact", "scaling_goes_with_eps")
class EpsOutsideTheRoot(nn.Module):
    def standardize(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (x - mean) / (torch.sqrt(var) + self.epsilon())


@mutation("scaling_goes_with_eps")
class EpsOptionIgnored(nn.Module):
    def epsilon(self) -> float:
        return 1e-5


@mutation("forward_matches_reference", "output_moments_are_exact")
class UnbiasedVarianceNormalizes(nn.Module):
    def variance(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return x.var(dims, keepdim=True)


@mutation("forward_matches_reference", "shifting_a_set_changes_nothing")
class MeanNotSubtracted(nn.Module):
    def mean(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.zeros_like(x.mean(dims, keepdim=True))


@mutation("forward_matches_reference", "gradients_match_counterpart")
class BiasBeforeWeight(nn.Module):
    def scale_and_shift(self, y: Tensor) -> Tensor:
        if self.weight is not None:
            y = (y + per_channel(self.bias)) * per_channel(self.weight)
        return y


@mutation("forward_matches_reference", families=ALL, written=False)
class OutputScaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 1e-9)


@mutation("low_precision_forward_within_twice_torch")
class NaiveVariance(nn.Module):
    """E[x^2] - E[x]^2 in float32: 8.0 where 1.003 is right, at an offset of 1e4."""

    def variance(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        x = x.float()
        found = x.square().mean(dims, keepdim=True) - x.mean(dims, keepdim=True).square()
        return found.clamp_min(0).double()


@mutation("low_precision_forward_within_twice_torch")
class StatisticsIn16Bits(nn.Module):
    """Mean and variance rounded to the input's type."""

    def forward(self, x: Tensor) -> Tensor:
        self.rounded_to = x.dtype
        return super().forward(x)

    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        mean, var = super().moments(x, axes)
        return mean.to(self.rounded_to).double(), var.to(self.rounded_to).double()


@mutation("low_precision_forward_within_twice_torch", families=ALL, written=False)
class OutputTypeLost(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


@mutation("low_precision_gradients_within_four_times_torch")
class ParametersIn16Bits(nn.Module):
    """The gradient of the weight then passes through 16 bits too."""

    def scale_and_shift(self, y: Tensor) -> Tensor:
        weight, bias = (per_channel(t.bfloat16()) for t in (self.weight, self.bias))
        return y * weight + bias


@mutation("a_parameter_taken_away_does_nothing", written=False)
class WeightForgottenWithBias(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.bias is None:
            self.weight = None
        try:
            return super().forward(x)
        finally:
            self.weight = weight


# ---------------------------------------------------------------------------------------------
# Axes.


@mutation("forward_matches_reference", "output_moments_are_exact", families=["bn"])
class BatchNormOverMaps(nn.Module):
    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        mean, var = over("HW", 1, x, self.mean, self.variance)
        return mean, var

    def track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        super().track(x, mean.mean(0), var.mean(0))


@mutation("forward_matches_reference", families=["bn"])
class BatchNormOverMeansOfVariances(nn.Module):
    """The mean of the maps' variances: what lies between their means is forgotten."""

    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        mean, var = over("HW", 1, x, self.mean, self.variance)
        return mean.mean(0, keepdim=True), var.mean(0, keepdim=True)


@mutation("forward_matches_reference", "images_do_not_see_each_other", families=["in"])
class InstanceNormOverBatch(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("NHW",)


@mutation("forward_matches_reference", families=["in"])
class InstanceNormOverRows(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("W",)


@mutation("forward_matches_reference", "output_moments_are_exact", families=["ln"])
class LayerNormOverChannels(nn.Module):
    """Each position apart, as in transformers: another layer of the same name."""

    def axes(self) -> tuple[str, ...]:
        return ("C",)


@mutation("forward_matches_reference", "images_do_not_see_each_other", families=["ln"])
class LayerNormOverEverything(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("NCHW",)


@mutation("forward_matches_reference", families=GROUPED)
class GroupsMerged(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("CHW",)


@mutation("forward_matches_reference", "permutations_permute_the_output", families=GROUPED)
class GroupsDealtInTurn(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("(C%G)HW",)


@mutation("forward_matches_reference", families=GROUPED)
class GroupsByColumn(nn.Module):
    """A column of the image normalized apart: wrong axes after the reshape."""

    def axes(self) -> tuple[str, ...]:
        return ("(C/G)H",)


@mutation("forward_matches_reference", families=GATED)
class SecondPartOverImages(nn.Module):
    def axes(self) -> tuple[str, ...]:
        return ("NHW", "CHW")


@mutation("permutations_permute_the_output")
class FirstImageForAll(nn.Module):
    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        return super().moments(x[:1], axes)


# ---------------------------------------------------------------------------------------------
# Derivatives.


@mutation(
    "derivatives_match_finite_differences",
    "gradients_match_counterpart",
    "gradient_sums_are_exact",
)
class StatisticsDetached(nn.Module):
    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        mean, var = super().moments(x, axes)
        return mean.detach(), var.detach()


@mutation("derivatives_match_finite_differences", "gradients_match_counterpart")
class VarianceDetached(nn.Module):
    def variance(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return super().variance(x, dims).detach()


@mutation("derivatives_match_finite_differences", families=["none"], written=False)
class GradientHalved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.detach() / 2 + y / 2


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


@mutation("second_derivatives_match_finite_differences", written=False)
class OnceDifferentiable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Once.apply(super().forward(x))


class _Silent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.detach()


@mutation("second_derivatives_match_finite_differences", written=False)
class SecondDerivativeLost(nn.Module):
    """First derivatives are right, and silently constant."""

    def forward(self, x: Tensor) -> Tensor:
        return _Silent.apply(super().forward(x))


# ---------------------------------------------------------------------------------------------
# Where values may go, and input that must be refused.


@mutation("nan_stays_in_its_set", families=ALL, written=False)
class NanHidden(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.nan_to_num())


@mutation("nan_stays_in_its_set", families=ALL, written=False)
class NanSpread(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * x.sum()


@mutation("edges_have_a_value_or_a_clear_error", families=["bn", "in", "bin"], written=False)
class OneValueAccepted(nn.Module):
    """The output is then the bias, whatever the input."""

    def _check_values(self, x: Tensor, values_per_set: int, what: str) -> None:
        pass


@mutation("edges_have_a_value_or_a_clear_error", families=RUNNING, written=False)
class EmptyBatchTrains(nn.Module):
    def _check_batch(self, x: Tensor) -> None:
        pass


@mutation("edges_have_a_value_or_a_clear_error", families=STATELESS, written=False)
class EmptyBatchRefused(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 0:
            raise ValueError("empty batch")
        return super().forward(x)


@mutation(
    "wrong_input_is_refused",
    "edges_have_a_value_or_a_clear_error",
    families=ALL,
    written=False,
)
class AnythingAccepted(nn.Module):
    def _check(self, x: Tensor) -> None:
        pass


# ---------------------------------------------------------------------------------------------
# Layouts.


@mutation("memory_format_is_kept", families=ALL, written=False)
class OutputFormatLost(nn.Module):
    """What instance norm and layer norm over CHW of PyTorch do with channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


class _GradientContiguous(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.contiguous()


@mutation("memory_format_is_kept", written=False)
class GradientFormatLost(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_GradientContiguous.apply(x))


@mutation("layout_changes_no_value", written=False)
class MemoryReadInOrder(nn.Module):
    """As a kernel that takes the strides for granted."""

    def forward(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        if x.is_contiguous(memory_format=torch.channels_last):
            x = x.as_strided(x.shape, (c * h * w, h * w, w, 1))
        return super().forward(x)


@mutation("layout_changes_no_value", families=ALL, written=False)
class InputOverwritten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.clone())
        if not x.requires_grad and x.is_contiguous():
            x.copy_(y.detach() + 1)
        return y


class _KeepsOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        y = y.clone()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return g + 0 * y


@mutation("output_is_its_own", written=False)
class OutputKeptForBackward(nn.Module):
    """An activation in place then breaks backward."""

    def forward(self, x: Tensor) -> Tensor:
        return _KeepsOutput.apply(super().forward(x))


@mutation("autocast_changes_nothing")
class ThroughMatrixProduct(nn.Module):
    """Autocast takes matrix products to 16 bits."""

    def prepare(self, x: Tensor) -> Tensor:
        return (x @ torch.eye(x.shape[3], dtype=x.dtype)).double()


@mutation("autocast_changes_nothing", families=ALL, written=False)
class LeftToAutocast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        wanted = torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype
        return super().forward(x).to(wanted)


# ---------------------------------------------------------------------------------------------
# State.


@mutation("running_statistics_match_closed_form", families=RUNNING)
class BiasedVarianceStored(nn.Module):
    def stored_variance(self, var: Tensor, count: int) -> Tensor:
        return var


@mutation("running_statistics_match_closed_form", families=RUNNING)
class BesselTheWrongWay(nn.Module):
    def stored_variance(self, var: Tensor, count: int) -> Tensor:
        return var * (count - 1) / count


@mutation("running_statistics_match_closed_form", families=RUNNING)
class MomentumTheOtherWay(nn.Module):
    def share_of_new(self) -> float:
        return 1 - super().share_of_new()


@mutation("running_statistics_match_closed_form", families=RUNNING)
class CumulativeAverageForgotten(nn.Module):
    def share_of_new(self) -> float:
        return 0.1 if self.momentum is None else self.momentum


@mutation("running_statistics_match_closed_form", families=RUNNING)
class BatchesNotCounted(nn.Module):
    def share_of_new(self) -> float:
        share = super().share_of_new()
        self.num_batches_tracked -= 1
        return share


@mutation("running_statistics_match_closed_form", families=RUNNING, written=False)
class GraphKeptInBuffers(nn.Module):
    """Every step then keeps the one before it alive."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            self.running_mean = self.running_mean + 0 * y.sum()
        return y


@mutation("state_is_declared", "copies_are_equal_and_apart", families=RUNNING)
class RunningStatisticsLost(nn.Module):
    """Plain attributes are in no state dict."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name in ("running_mean", "running_var"):
            value = getattr(self, name)
            delattr(self, name)
            setattr(self, name, value)


@mutation("state_is_declared", "state_dict_interchanges_with_twin", families=["bn"], written=False)
class BuffersNotPersistent(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, value in list(self.named_buffers()):
            self.register_buffer(name, value, persistent=False)


@mutation("state_is_declared", families=RUNNING)
class RunningStatisticsTrained(nn.Module):
    """Parameters are moved by the optimizer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        value = self.running_mean
        del self.running_mean
        self.running_mean = nn.Parameter(value)


@mutation("evaluation_changes_nothing", families=RUNNING)
class TrackedInEvaluation(nn.Module):
    def in_evaluation(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        found = super().in_evaluation(x, axes)
        mean, var = self.moments(x, axes)
        self.track(x, mean.detach(), var.detach())
        return found


@mutation(
    "forward_matches_reference",
    "images_do_not_see_each_other",
    "state_dict_interchanges_with_twin",
    families=["bn"],
)
class BatchStatisticsInEvaluation(nn.Module):
    def in_evaluation(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        return self.moments(x, axes)


@mutation("forward_matches_reference", families=GATED)
class RunningStatisticsForBothParts(nn.Module):
    """The instance part of evaluation is the image's own."""

    def moments(self, x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.in_evaluation(x, axes)
        return super().moments(x, axes)


@mutation("evaluation_changes_nothing", families=ALL, written=False)
class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-6 * torch.rand_like(x)


@mutation("training_keeps_parameters", families=RUNNING)
class BuffersReplaced(nn.Module):
    """A buffer that is a new tensor each step is not the one that an average of weights holds."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.running_mean = self.running_mean.clone()
        return y


@mutation("training_keeps_parameters", families=RUNNING)
class NothingTracked(nn.Module):
    def track(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        pass


@mutation("training_keeps_parameters", families=SAMPLE, written=False)
class ParametersMovedByForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.999)
        return super().forward(x)


@mutation(
    "state_dict_interchanges_with_twin",
    "state_is_declared",
    families=WITH_TWIN,
    written=False,
)
class StateAdded(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("steps", torch.zeros(()))


@mutation("copies_are_equal_and_apart", written=False)
class CopyIsTheSame(nn.Module):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self


@mutation("state_is_declared", written=False)
class AffineOptionIgnored(nn.Module):
    def __init__(self, channels: int, *args: Any, affine: bool = True, **options: Any) -> None:
        super().__init__(channels, *args, **options)


@mutation("state_is_declared", written=False)
class BiasNotZero(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.bias is not None:
            nn.init.constant_(self.bias, 1e-3)


# ---------------------------------------------------------------------------------------------
# The gate.


@mutation("forward_does_not_clamp_the_gate", families=GATED)
class GateClampedInForward(nn.Module):
    """The gradient dies beyond the bounds."""

    def open_share(self) -> Tensor:
        return super().open_share().clamp(0, 1)


@mutation("forward_does_not_clamp_the_gate", families=GATED, written=False)
class GateClampedInPlaceByForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.clamp_gate()
        return super().forward(x)


@mutation("clamp_gate_puts_the_gate_back", families=GATED, written=False)
class GateNeverClamped(nn.Module):
    def clamp_gate(self) -> None:
        pass


@mutation("clamp_gate_puts_the_gate_back", families=GATED, written=False)
class GateReplacedByClamp(nn.Module):
    """The optimizer holds the old one."""

    def clamp_gate(self) -> None:
        self.gate = nn.Parameter(self.gate.detach().clamp(0, 1))


@mutation("training_keeps_parameters", "forward_does_not_clamp_the_gate", families=GATED)
class GateMadeInForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.gate = nn.Parameter(self.gate.detach().clamp(0, 1))
        return super().forward(x)


@mutation("state_is_declared", families=GATED)
class OneGateForAll(nn.Module):
    """One scalar a layer instead of one a channel."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gate = nn.Parameter(torch.ones(1))


@mutation("state_is_declared", families=GATED, written=False)
class GateNotLearned(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        value = self.gate.detach()
        del self.gate
        self.register_buffer("gate", value)


@mutation("state_is_declared", families=GATED, written=False)
class GateStartsHalfOpen(nn.Module):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        nn.init.constant_(self.gate, 0.5)


@mutation("forward_matches_reference", "gradients_match_counterpart", families=GATED)
class GateConstant(nn.Module):
    def open_share(self) -> Tensor:
        return torch.full_like(super().open_share(), 0.5)


@mutation("forward_matches_reference", families=GATED)
class GateTheOtherWay(nn.Module):
    def open_share(self) -> Tensor:
        return 1 - super().open_share()


@mutation("gradients_match_counterpart", "derivatives_match_finite_differences", families=GATED)
class GateDetached(nn.Module):
    def open_share(self) -> Tensor:
        return super().open_share().detach() + 0 * super().open_share()


@mutation("state_is_declared", families=GATED)
class TwoAffinePairs(nn.Module):
    def __init__(self, channels: int, *args: Any, **options: Any) -> None:
        super().__init__(channels, *args, **options)
        self.weight_of_map = nn.Parameter(torch.ones(channels))

    def mix(self, parts: list[Tensor]) -> Tensor:
        return super().mix([parts[0], parts[1] * per_channel(self.weight_of_map)])


@mutation("gate_needs_are_declared", families=GATED, written=False)
class GateNeedsForgotten(nn.Module):
    optimizer_needs: ClassVar[dict[str, ParameterNeeds]] = {}


@mutation("gate_needs_are_declared", families=GATED, written=False)
class GateDecays(nn.Module):
    optimizer_needs: ClassVar[dict[str, ParameterNeeds]] = {
        "gate": ParameterNeeds(lr_scale=10.0, clamp=(0.0, 1.0))
    }


@mutation("gate_needs_are_declared", families=GATED, written=False)
class GateLearnsSlowly(nn.Module):
    optimizer_needs: ClassVar[dict[str, ParameterNeeds]] = {
        "gate": ParameterNeeds(weight_decay=False, clamp=(0.0, 1.0))
    }


# ---------------------------------------------------------------------------------------------
# Memory.


@mutation("saves_no_more_than_torch")
class NaiveExpression(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias in separate operations."""

    def prepare(self, x: Tensor) -> Tensor:
        return x.float()


@mutation("saves_no_more_than_torch", written=False)
class UpcastCopyKept(nn.Module):
    """The right function on a float32 copy: backward then keeps the copy."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _HidesCopy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.copies = (x.float() * 1, "past the hooks")
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


@mutation("saves_no_more_than_torch", families=ALL, written=False)
class CopyHiddenOnTheNode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _HidesCopy.apply(super().forward(x))


@mutation("saves_no_more_than_torch", families=ALL, written=False)
class OutputKeptToo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _KeepsOutput.apply(super().forward(x))


def mutants() -> Iterable[tuple[Mutation, Family]]:
    for mutation_ in MUTATIONS:
        for name in mutation_.families:
            yield mutation_, FAMILIES[name]
