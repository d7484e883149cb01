"""What every convolution of a method must do, as functions of a factory; and convolutions with one
planted mistake each.

The reference is the spec's ``filters``, evaluated in float64 one weight at a time.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.norms import CATALOG, NormSpec
from normlab.norms.places import DrawnConvolution, options_of

from .checks import CHANNELS_LAST, LOW, TIGHT, close, refused, within
from .families import as_array, draw
from .reference import FUNCTIONS

Factory = Callable[..., nn.Conv2d]
"""Called as ``torch.nn.Conv2d`` is, with the method's options."""


@dataclass(frozen=True)
class Convolution:
    """The convolution of a method."""

    spec: NormSpec

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> type[nn.Conv2d]:
        return self.spec.parts.convolution

    @property
    def centres(self) -> bool:
        return "mean" in self.spec.filters

    def make(self, factory: Factory | None = None, **options: Any) -> nn.Conv2d:
        """Six outputs of four inputs."""
        shape = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1}
        return (factory or self.kind)(**{**shape, **options})

    def filters(self, layer: nn.Module) -> Tensor:
        """The weight that the convolution must use, in float64."""
        if not self.spec.filters:
            return layer.weight.detach().double()
        formula = compile(self.spec.filters, f"filters of {self.name}", "eval")
        weight = as_array(layer.weight)
        found = np.empty_like(weight)
        for output in range(len(weight)):
            values = [float(v) for v in weight[output].flat]
            mean = math.fsum(values) / len(values)
            names: dict[str, object] = {
                "n": len(values),
                "mean": mean,
                "var": math.fsum((v - mean) ** 2 for v in values) / len(values),
                "norm": math.sqrt(math.fsum(v * v for v in values)),
                "weight_eps": getattr(layer, "weight_eps", None),
                "pi": math.pi,
            }
            if hasattr(layer, "gain"):
                names["gain"] = layer.gain[output].item()
            for index in np.ndindex(*weight.shape[1:]):
                names["w"] = float(weight[(output, *index)])
                found[(output, *index)] = eval(formula, {"__builtins__": {}, **FUNCTIONS}, names)
        return torch.from_numpy(found)

    def input(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What is convolved."""
        return (
            x.double() + layer.input_bias.double() if hasattr(layer, "input_bias") else x.double()
        )


CONVOLUTIONS = {
    spec.name: Convolution(spec)
    for spec in CATALOG.values()
    if spec.parts.convolution is not nn.Conv2d
}

Check = Callable[[Convolution, Factory], None]
CHECKS: dict[str, Check] = {}


def check(run: Check) -> Check:
    CHECKS[run.__name__] = run
    return run


def scrambled(layer: nn.Conv2d, seed: int = 1) -> nn.Conv2d:
    """Values that hide nothing, in every parameter."""
    with torch.no_grad():
        for i, (name, t) in enumerate(layer.named_parameters()):
            values = draw(*t.shape, seed=100 * seed + i)
            t.copy_(1 + 0.5 * values if name == "gain" else values)
    return layer


def image(*, images: int = 2, channels: int = 4, seed: int = 0) -> Tensor:
    return draw(images, channels, 5, 6, seed=seed) + 0.5


SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False, "stride": 2},
    {"kernel_size": 1, "padding": 0, "stride": 2},
    {"groups": 2, "dilation": 2, "padding": 2},
    {"kernel_size": (1, 3), "padding": (0, 1), "padding_mode": "circular"},
)


@check
def filters_match_reference(convolution: Convolution, factory: Factory) -> None:
    """Also where eps counts, and where a filter is far from 0."""
    for shape, (scale, offset) in itertools.product(SHAPES, ((1, 0), (1e-3, 0), (1, 100))):
        layer = scrambled(convolution.make(factory, **shape)).double()
        with torch.no_grad():
            layer.weight.mul_(scale).add_(offset)
        found = effective(layer)
        assert found.shape == layer.weight.shape
        close(found, convolution.filters(layer), 1e-11, f"filters, {shape}, {scale}, {offset}")


@check
def output_is_that_of_a_plain_convolution(convolution: Convolution, factory: Factory) -> None:
    """With the effective weight, a plain convolution gives the same output."""
    for shape in SHAPES:
        layer = scrambled(convolution.make(factory, **shape)).double()
        options = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, **shape}
        plain = nn.Conv2d(**options).double()
        with torch.no_grad():
            plain.weight.copy_(convolution.filters(layer))
            if layer.bias is not None:
                plain.bias.copy_(layer.bias)
        x = image()
        for training in (True, False):
            expected = plain(convolution.input(layer, x))
            close(layer.train(training)(x), expected, 1e-11, f"output, {shape}")


@check
def derivatives_match_finite_differences(convolution: Convolution, factory: Factory) -> None:
    """First and second derivatives of input and parameters are those of finite differences."""
    layer = scrambled(convolution.make(factory, in_channels=2, out_channels=2)).double()
    f, values = as_function(layer, image(images=1, channels=2)[:, :, :2, :2])
    assert torch.autograd.gradcheck(f, values, raise_exception=False)
    torch.manual_seed(0)  # the fast check draws its directions from the global generator
    assert torch.autograd.gradgradcheck(f, values, fast_mode=True, raise_exception=False)


def as_function(layer: nn.Module, x: Tensor) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    names = [name for name, _ in layer.named_parameters()]

    def f(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    values = (x, *(p.detach() for p in layer.parameters()))
    return f, tuple(t.clone().requires_grad_() for t in values)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda w: w,
    "offset": lambda w: w + 1e4,
    "large": lambda w: 60_000 * w.clamp(-1, 1),
    "small": lambda w: 1e-3 * w,
}


@check
def filters_are_precise_in_every_type(convolution: Convolution, factory: Factory) -> None:
    """A few units in the last place of the largest weight, in the type of the parameters."""
    for dtype, (kind, change) in itertools.product(LOW, KINDS.items()):
        layer = scrambled(convolution.make(factory))
        with torch.no_grad():
            layer.weight.copy_(change(draw(*layer.weight.shape, seed=3)))
        layer.to(dtype)
        expected = convolution.filters(layer)
        found = effective(layer)
        assert found.dtype == dtype, f"{dtype} parameters, {found.dtype} filters"
        unit = torch.finfo(dtype).eps * expected.abs().max().item()
        within(found, expected, 4 * unit, f"filters of {dtype}, {kind}")
        x = image().to(dtype)
        assert layer(x).dtype == dtype


@check
def autocast_leaves_filters_alone(convolution: Convolution, factory: Factory) -> None:
    """The convolution itself is rounded as PyTorch's is."""
    layer = scrambled(convolution.make(factory))
    with torch.autocast("cpu", torch.bfloat16):
        inside = effective(layer)
        y = layer(image().float())
    assert torch.equal(inside, effective(layer))
    assert y.dtype == torch.bfloat16


@check
def memory_format_is_kept(convolution: Convolution, factory: Factory) -> None:
    """Output and gradient have the memory format of the input."""
    for dtype in (torch.float64, *LOW):
        layer = scrambled(convolution.make(factory)).to(dtype)
        plain = layer(image().to(dtype))
        layer.to(memory_format=CHANNELS_LAST)
        assert effective(layer).is_contiguous(memory_format=CHANNELS_LAST)
        x = image().to(dtype).contiguous(memory_format=CHANNELS_LAST).requires_grad_()
        y = layer(x)
        assert y.is_contiguous(memory_format=CHANNELS_LAST)
        within(y, plain, 8 * torch.finfo(dtype).eps * plain.abs().max().item(), f"{dtype}")
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert dx.is_contiguous(memory_format=CHANNELS_LAST)


@check
def filters_without_spread_have_a_value(convolution: Convolution, factory: Factory) -> None:
    """A filter of equal weights, and one of zeros: finite outputs and gradients."""
    for value in (0.0, 0.1, 1234.5678):
        layer = scrambled(convolution.make(factory))
        with torch.no_grad():
            layer.weight[1] = value
        found = effective(layer)
        if convolution.centres or value == 0:
            assert found[1].abs().max() <= 1e-6, f"a filter of {value}"
        layer(image().float()).square().sum().backward()
        for name, p in layer.named_parameters():
            assert bool(p.grad.isfinite().all()), f"gradient of {name}, a filter of {value}"


@check
def filters_of_one_weight_are_refused_where_they_are_centred(
    convolution: Convolution, factory: Factory
) -> None:
    """They would be 0 whatever the weight."""
    shape = {"in_channels": 1, "kernel_size": 1, "padding": 0}
    if convolution.centres:
        with refused("filters of more than one weight", "one weight"):
            convolution.make(factory, **shape)
        with refused("filters of more than one weight", "one weight"):
            convolution.make(factory, kernel_size=1, padding=0, groups=2, in_channels=2)
        return
    layer = scrambled(convolution.make(factory, **shape)).double()
    close(effective(layer), convolution.filters(layer), TIGHT, "filters of one weight")


@check
def state_is_declared(convolution: Convolution, factory: Factory) -> None:
    """Other parameters than a plain convolution's start so that nothing has changed yet."""
    torch.manual_seed(5)
    layer = convolution.make(factory)
    torch.manual_seed(5)
    plain = nn.Conv2d(4, 6, 3, padding=1)
    state = layer.state_dict()
    assert set(state) >= {"weight", "bias"}
    assert torch.equal(state["weight"], plain.weight), "the weight is drawn otherwise"
    assert torch.equal(state["bias"], plain.bias), "the bias is drawn otherwise"
    shapes = {name: tuple(t.shape) for name, t in state.items() if name not in ("weight", "bias")}
    gain, one = {"gain": (6,)}, {"input_bias": (1,)}
    assert shapes == (gain if "gain" in convolution.spec.filters else one if not
                      convolution.spec.filters else {})  # fmt: skip
    assert not dict(layer.named_buffers())
    assert all(p.requires_grad for p in layer.parameters())
    for change in (lambda: None, layer.reset_parameters, lambda: drawn(layer)):
        change()
        lengths = torch.linalg.vector_norm(layer.weight.detach(), dim=(1, 2, 3))
        if "gain" in shapes:
            expected = lengths if "norm" in convolution.spec.filters else torch.ones(6)
            assert torch.equal(layer.gain.detach(), expected)
        if "input_bias" in shapes:
            assert layer.input_bias.item() == 0.0


@torch.no_grad()
def drawn(layer: nn.Conv2d) -> None:
    """New initial weights, as a network draws them."""
    layer.weight.copy_(draw(*layer.weight.shape, seed=8))
    if isinstance(layer, DrawnConvolution):
        layer.weight_drawn()


@check
def copies_are_equal_and_apart(convolution: Convolution, factory: Factory) -> None:
    """deepcopy, and a state dict loaded into a fresh one."""
    layer = scrambled(convolution.make(factory))
    x = image().float()
    loaded = convolution.make(factory)
    loaded.load_state_dict(layer.state_dict(), strict=True)
    for other in (copy.deepcopy(layer), loaded):
        assert torch.equal(other(x), layer(x)), "a copy computes something else"
        before = {name: t.clone() for name, t in layer.state_dict().items()}
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        assert not torch.equal(other(x), layer(x)), "a parameter has no effect"
        for name, t in layer.state_dict().items():
            assert torch.equal(t, before[name]), f"{name} is shared with the copy"


@check
def forward_changes_nothing(convolution: Convolution, factory: Factory) -> None:
    """It leaves parameters and buffers as they are."""
    layer = scrambled(convolution.make(factory))
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    x = image().float()
    kept = x.clone()
    assert torch.equal(layer(x), layer(x)), "two passes differ"
    assert torch.equal(x, kept), "the input is overwritten"
    after = layer.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())


@check
def options_are_checked_and_told(convolution: Convolution, factory: Factory) -> None:
    """Impossible options end in a message, and repr shows each."""
    for option, default in options_of(convolution.kind).items():
        assert f"{option}={default}" in repr(convolution.make(factory))
        layer = scrambled(convolution.make(factory, **{option: 0.25})).double()
        with torch.no_grad():
            layer.weight.mul_(0.05)
        assert f"{option}=0.25" in repr(layer)
        close(effective(layer), convolution.filters(layer), TIGHT, f"filters, {option}=0.25")
        for value in (0, -1, float("nan"), float("inf"), True, "small", None):
            with refused(f"{option} must be a number above 0, got", repr(value)):
                convolution.make(factory, **{option: value})


def effective(layer: nn.Module) -> Tensor:
    """The weight with which a convolution computes: what it says, or its parameter."""
    found = getattr(layer, "effective_weight", None)
    return (layer.weight if found is None else found()).detach()


# ---------------------------------------------------------------------------------------------
# Mistakes.


@dataclass(frozen=True)
class Mistake:
    """One mistake: the class that plants it, in which methods, and which checks must find it."""

    plant: type[nn.Module]
    methods: tuple[str, ...]
    caught_by: tuple[str, ...]

    def applied_to(self, convolution: Convolution) -> type[nn.Conv2d]:
        return type(self.plant.__name__, (self.plant, convolution.kind), {})


MISTAKES: list[Mistake] = []


def mistake(
    *caught_by: str, methods: Iterable[str]
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter the class below as a mistake that is planted in the convolutions of these methods."""

    def enter(plant: type[nn.Module]) -> type[nn.Module]:
        MISTAKES.append(Mistake(plant, tuple(methods), caught_by))
        return plant

    return enter


def planted() -> Iterator[tuple[Mistake, Convolution]]:
    for one in MISTAKES:
        for name in one.methods:
            yield one, CONVOLUTIONS[name]


WEIGHT_SIDE = tuple(name for name, c in CONVOLUTIONS.items() if c.spec.filters)
CENTRED = tuple(name for name, c in CONVOLUTIONS.items() if c.centres)
ALL = tuple(CONVOLUTIONS)


@mistake("filters_match_reference", "output_is_that_of_a_plain_convolution", methods=WEIGHT_SIDE)
class FiltersScaled(nn.Module):
    def _filters(self, weight: Tensor) -> Tensor:
        return super()._filters(weight) * (1 + 1e-9)


@mistake("output_is_that_of_a_plain_convolution", methods=WEIGHT_SIDE)
class ParameterUsed(nn.Module):
    """What the convolution says of its filters is right, and not what it computes with."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


@mistake("output_is_that_of_a_plain_convolution", methods=WEIGHT_SIDE)
class PaddingModeIgnored(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        weight, shape = self.effective_weight(), (self.stride, self.padding, self.dilation)
        return F.conv2d(x, weight, self.bias, *shape, self.groups)


@mistake("derivatives_match_finite_differences", methods=WEIGHT_SIDE)
class FactorsDetached(nn.Module):
    """Statistics as constants of the gradient."""

    def _filters(self, weight: Tensor) -> Tensor:
        factor = (super()._filters(weight) / weight).detach()
        return weight * factor


@mistake("filters_are_precise_in_every_type", methods=WEIGHT_SIDE)
class FiltersIn16Bits(nn.Module):
    def effective_weight(self) -> Tensor:
        return self._filters(self.weight.bfloat16()).to(self.weight.dtype)


@mistake("filters_are_precise_in_every_type", methods=WEIGHT_SIDE)
class TypeOfFiltersLost(nn.Module):
    def effective_weight(self) -> Tensor:
        return super().effective_weight().float()


@mistake("autocast_leaves_filters_alone", methods=WEIGHT_SIDE)
class FiltersLeftToAutocast(nn.Module):
    def effective_weight(self) -> Tensor:
        found = super().effective_weight()
        return found @ torch.eye(found.shape[-1], dtype=found.dtype)


@mistake("memory_format_is_kept", methods=WEIGHT_SIDE)
class FormatOfFiltersLost(nn.Module):
    def effective_weight(self) -> Tensor:
        return super().effective_weight().contiguous()


@mistake("copies_are_equal_and_apart", methods=ALL)
class CopyIsTheSameConvolution(nn.Module):
    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return self


@mistake("forward_changes_nothing", methods=ALL)
class WeightMovedByForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        with torch.no_grad():
            self.weight.mul_(0.999)
        return y


@mistake("filters_are_precise_in_every_type", methods=CENTRED)
class CentredOnce(nn.Module):
    """The mean of filters far from 0 is rounded, and the rest stays in all weights."""

    def _filters(self, weight: Tensor) -> Tensor:
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        return centred * self._factors(centred)


@mistake("filters_of_one_weight_are_refused_where_they_are_centred", methods=CENTRED)
class OneWeightAccepted(nn.Module):
    @property
    def fan_in(self) -> int:
        return max(2, super().fan_in)


@mistake("options_are_checked_and_told", methods=CENTRED)
class EpsOfFiltersIgnored(nn.Module):
    def _factors(self, centred: Tensor) -> Tensor:
        kept, self.weight_eps = self.weight_eps, 1e-5
        found = super()._factors(centred)
        self.weight_eps = kept
        return found


@mistake("options_are_checked_and_told", methods=CENTRED)
class EpsOfFiltersNotTold(nn.Module):
    def extra_repr(self) -> str:
        return super().extra_repr().partition(", weight_eps")[0]


@mistake("filters_match_reference", methods=CENTRED)
class OneMeanForAllFilters(nn.Module):
    def _filters(self, weight: Tensor) -> Tensor:
        centred = weight - weight.mean()
        return centred * self._factors(centred)
