"""What every layer must do, as functions of a layer factory.

Each check takes a family and a factory, and fails with an AssertionError. ``test_conformance``
runs them on the layers of the catalogue, ``test_mutations`` on layers with one planted mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normlab.norms import ParameterNeeds, SyncBatchNorm2d
from normlab.norms._core import normalize
from normlab.norms.kernels import Running
from normlab.norms.synchronized import Division, pooled_over

from . import reference
from .families import MODES, Factory, Family, as_array, draw, same_state, scramble

TIGHT = 1e-12  # forward in float64
GRADIENT = 1e-10  # gradients in float64, against PyTorch's
LOW = (torch.float32, torch.bfloat16, torch.float16)
CHANNELS_LAST = torch.channels_last


class Moments:
    """Mean and biased variance that a layer is given of a training pass."""

    running: Running | None = None
    both: tuple[Tensor, Tensor]

    def move(self, mean: Tensor, var: Tensor) -> None:
        self.both = mean, var


def normalized(*values: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The output of ``normalize``, and the mean and biased variance of its first pool."""
    moments = Moments()
    return normalize(*values, track=moments, **named), *moments.both


@dataclass(frozen=True)
class Check:
    """A named check and the families it is about."""

    name: str
    run: Callable[[Family, Factory], None]
    about: Callable[[Family], bool]

    def applies(self, family: Family) -> bool:
        """Whether it holds for a family."""
        return self.about(family) and self.name not in family.unlike


CHECKS: dict[str, Check] = {}


def check(
    about: Callable[[Family], bool] = lambda family: True,
) -> Callable[[Callable[[Family, Factory], None]], Callable[[Family, Factory], None]]:
    """Enter a function into :data:`CHECKS` under its own name."""

    def enter(run: Callable[[Family, Factory], None]) -> Callable[[Family, Factory], None]:
        CHECKS[run.__name__] = Check(run.__name__, run, about)
        return run

    return enter


def normalizes(family: Family) -> bool:
    return family.normalizes


def has_running_statistics(family: Family) -> bool:
    return family.has_running_statistics


def standardizes(family: Family) -> bool:
    return family.standardizes


def has_gate(family: Family) -> bool:
    return family.has_gate


def is_lean(family: Family) -> bool:
    return family.lean


def is_not_lean(family: Family) -> bool:
    return not family.lean


def has_twin(family: Family) -> bool:
    return family.spec.twin is not None


# ---------------------------------------------------------------------------------------------
# Point 1: values and gradients, in every type.


@check()
def forward_matches_reference(family: Family, factory: Factory) -> None:
    """The output in float64 is that of the formula, value by value, in training and evaluation."""
    for mode, training in MODES.items():
        for affine in (True, False) if family.has_affine else (None,):
            options = {} if affine is None else {"affine": affine}
            layer = scramble(family.make(factory, **options)).double().train(training)
            for x in (input_for(family), 1e-3 * input_for(family, seed=7)):  # eps counts in both
                expected = family.expected(layer, x)
                close(layer(x), expected, TIGHT, f"output in {mode}, affine={affine}")


@check()
def gradients_match_counterpart(family: Family, factory: Factory) -> None:
    """Gradients of input and parameters are those of the same layer written in PyTorch."""
    for mode, training in MODES.items():
        layer = scramble(family.make(factory)).double().train(training)
        other = same_state(family.counterpart(), layer)
        x, g = input_for(family), input_for(family, seed=9)
        found, expected = backward(layer, x, g), backward(other, x, g)
        same_names(found, expected)
        for name in expected:
            close(found[name], expected[name], GRADIENT, f"gradient of {name} in {mode}")


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda z: z,
    # The mean is 1e4 standard deviations away: E[x^2] - E[x]^2 leaves nothing of the variance.
    "offset": lambda z: z + 1e4,
    # Another mean in each image: one centre for a whole batch would cost the digits of a map.
    "images_apart": lambda z: z + 1e4 * torch.arange(len(z)).view(-1, 1, 1, 1).remainder(2),
    # Values near the end of float16, whose squares overflow it.
    "large": lambda z: 60_000 * z.clamp(-1, 1),
    "constant": lambda z: torch.full_like(z, 1234.5678),
}


@check()
def low_precision_forward_within_twice_torch(family: Family, factory: Factory) -> None:
    """In float32 and 16 bits, far from 0 too, errors are at most twice those of PyTorch."""
    for dtype, kind, layout, training in low_precision_cases():
        layer, other, x = low_precision_pair(family, factory, dtype, kind, layout, training)
        expected = family.expected(layer, x)
        y = layer(x)
        assert y.dtype == dtype, f"{dtype} in, {y.dtype} out"
        what = f"{dtype} output, {kind} {layout}, training={training}"
        theirs = other(x)
        no_worse(y, theirs, expected, dtype, 2, what)
        # The worst value of a tensor is a matter of luck, the mean square is not.
        ours, limit = (mean_error(t, expected) for t in (y, theirs))
        rounding = 0.29 * torch.finfo(dtype).eps * mean_error(torch.zeros_like(y), expected)
        assert ours <= 2 * max(limit, rounding), f"{what}: {ours:.3g} on average, torch {limit:.3g}"


@check()
def low_precision_gradients_within_four_times_torch(family: Family, factory: Factory) -> None:
    """Four times, because PyTorch adds up in float64 on a CPU and a few units are at stake."""
    for dtype, kind, layout, training in low_precision_cases():
        layer, other, x = low_precision_pair(family, factory, dtype, kind, layout, training)
        g = input_for(family, size=12, seed=9).to(dtype)
        exact = same_state(family.counterpart().double(), layer).double()
        expected = backward(exact, x.double(), g.double())
        theirs, found = backward(other, x, g), backward(layer, x, g)
        same_names(found, expected)
        kept = rounding_of_means(family, x, training)
        for name, truth in expected.items():
            assert found[name].dtype == theirs[name].dtype, name
            what = f"{dtype} gradient of {name}, {kind} {layout}, training={training}"
            unit_of = dtype if name == "x" else torch.float32
            # What a whole layer shares is a sum over all values, of which more cancels.
            of_all = name != "x" and truth.shape != (family.channels,)
            lost = max(kept, 2 * torch.finfo(torch.float32).eps) if of_all else kept
            no_worse(found[name], theirs[name], truth, unit_of, 4, what, lost)


def low_precision_cases() -> Iterator[tuple[torch.dtype, str, torch.memory_format, bool]]:
    for dtype in LOW:
        for kind in KINDS:
            for training in MODES.values():
                for layout in (torch.contiguous_format, CHANNELS_LAST):
                    # The layout changes the order of summation, and with it only the rounding.
                    if layout is CHANNELS_LAST and kind not in ("plain", "offset"):
                        continue
                    yield dtype, kind, layout, training


def low_precision_pair(
    family: Family,
    factory: Factory,
    dtype: torch.dtype,
    kind: str,
    layout: torch.memory_format,
    training: bool,
) -> tuple[nn.Module, nn.Module, Tensor]:
    """Layer, PyTorch's own and their input. Parameters are float32, as in mixed precision."""
    x = KINDS[kind](input_for(family, size=12)).to(dtype).contiguous(memory_format=layout)
    layer = scramble(family.make(factory)).train(training)
    if {"running_mean", "running_var"} & set(family.spec.buffers):
        # Statistics that fit the input, as after some training.
        with torch.no_grad():
            seen = tracked(layer, x).double()
            if "running_mean" in family.spec.buffers:
                layer.running_mean.copy_(seen.mean((0, 2, 3)) + 0.1)
            var = seen.var((0, 2, 3)) + 0.1
            layer.running_var.copy_(var if layer.running_var.shape == var.shape else var.mean())
    other = same_state(family.counterpart(), layer)
    return layer, other, x


def no_worse(
    found: Tensor,
    theirs: Tensor,
    truth: Tensor,
    dtype: torch.dtype,
    times: float,
    what: str,
    rounding: float = 0.0,
) -> None:
    """The largest error is at most so many times that of PyTorch's operation.

    PyTorch's counts as one unit in the last place of the largest value (or the rounding given,
    relative to that value) at least: where it is exact by luck, twice nothing is no bound.
    """
    relative = max(torch.finfo(dtype).eps, rounding)
    error = (theirs.double() - truth).abs().max().item()
    within(found, truth, times * max(error, relative * truth.abs().max().item()), what)


def rounding_of_means(family: Family, x: Tensor, training: bool) -> float:
    """What rounding a mean to float32 may cost, in standard deviations of its set.

    Backward gets its means so, here and in PyTorch. It is a matter of luck whose fits better.
    """
    found = [
        abs(m.mean) / (m.variance("n") + 1e-5) ** 0.5
        for axes in family.axes_in_use(training)
        for m in reference.moments(axes, as_array(x), family.groups).values()
    ]
    return 0.5 * torch.finfo(torch.float32).eps * max(found, default=0.0)


def mean_error(found: Tensor, truth: Tensor) -> float:
    """Root of the mean square of the errors."""
    return (found.detach().double() - truth).square().mean().sqrt().item()


@check(lambda family: family.has_affine)
def a_parameter_taken_away_does_nothing(family: Family, factory: Factory) -> None:
    """Without its weight or its bias, a layer computes as with one that is at its start."""
    start = family.make(factory)
    x, g = input_for(family), input_for(family, seed=9)
    for training in MODES.values():
        for name in ("weight", "bias"):
            bare, whole = (scramble(family.make(factory)).double() for _ in range(2))
            setattr(bare, name, None)
            with torch.no_grad():
                getattr(whole, name).copy_(getattr(start, name))
            for layer in (bare, whole):
                layer.train(training)
            found, expected = backward(bare, x, g), backward(whole, x, g)
            close(bare(x), whole(x), TIGHT, f"output without {name}")
            for of in found:
                close(found[of], expected[of], GRADIENT, f"gradient of {of} without {name}")


# ---------------------------------------------------------------------------------------------
# Point 2: derivatives against finite differences.


@check()
def derivatives_match_finite_differences(family: Family, factory: Factory) -> None:
    """Gradients of input and parameters are those of finite differences."""
    for mode, training in MODES.items():
        f, inputs = as_function(family, factory, training)
        assert torch.autograd.gradcheck(f, inputs, raise_exception=False), mode


@check()
def second_derivatives_match_finite_differences(family: Family, factory: Factory) -> None:
    """So are derivatives of gradients."""
    for mode, training in MODES.items():
        f, inputs = as_function(family, factory, training)
        torch.manual_seed(0)  # the fast check draws its directions from the global generator
        try:
            right = torch.autograd.gradgradcheck(
                f,
                inputs,
                fast_mode=True,
                raise_exception=False,
            )
        except RuntimeError as error:  # no second derivative at all
            raise AssertionError(f"{mode}: {error}") from error
        assert right, mode


def as_function(
    family: Family, factory: Factory, training: bool
) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The layer as a pure function of its input and all its parameters."""
    layer = scramble(family.make(factory)).double().train(training)
    parameters = dict(layer.named_parameters())
    buffers = dict(layer.named_buffers())

    def f(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        state |= {name: t.clone() for name, t in buffers.items()}
        return torch.func.functional_call(layer, state, (x,))

    x = draw(2, family.channels, 2, 2, seed=3)
    values = (t.detach().clone() for t in parameters.values())
    return f, tuple(t.requires_grad_() for t in (x, *values))


# ---------------------------------------------------------------------------------------------
# Point 3: exact invariants.


@check(standardizes)
def output_moments_are_exact(family: Family, factory: Factory) -> None:
    """A fresh layer gives mean 0 and variance s2 / (s2 + eps), not "about 1"."""
    for part, axes in enumerate(family.spec.axes):
        layer = family.make(factory).double()
        if has_gate(family):
            with torch.no_grad():
                layer.gate.fill_(1.0 if part == 0 else 0.0)
        x = 0.01 * input_for(family)  # eps is a tenth of the variance
        before = reference.moments(axes, as_array(x), family.groups)
        after = reference.moments(axes, as_array(layer(x)), family.groups)
        for key, m in before.items():
            var = m.variance(family.spec.variance)
            close_numbers(after[key].mean, 0.0, TIGHT, f"output mean of set {key}")
            close_numbers(
                after[key].variance(family.spec.variance),
                var / (var + layer.eps),
                TIGHT,
                f"output variance of set {key}",
            )


@check(standardizes)
def shifting_a_set_changes_nothing(family: Family, factory: Factory) -> None:
    """A number that is added to all values of a set leaves the output as it is."""
    layer = scramble(family.make(factory)).double()
    x = input_for(family)
    y = layer(x)
    axes = family.spec.axes[0]
    shift = torch.zeros_like(x)
    for i, indices in enumerate(
        reference.statistic_sets(axes, tuple(x.shape), family.groups).values()
    ):
        for index in indices:
            shift[index] = 3 * np.sin(i + 1)
    close(layer(x + shift), y, TIGHT * 4, "output of the shifted input")


@check(standardizes)
def scaling_goes_with_eps(family: Family, factory: Factory) -> None:
    """f(a x; a^2 eps) = f(x; eps), the exact form of scale invariance."""
    a, x = 3.0, 0.01 * input_for(family)
    for eps in (1e-5, 1e-3):
        y = scramble(family.make(factory, eps=eps)).double()(x)
        scaled = scramble(family.make(factory, eps=a * a * eps)).double()(a * x)
        close(scaled, y, TIGHT, f"output of the scaled input, eps={eps}")


@check(standardizes)
def gradient_sums_are_exact(family: Family, factory: Factory) -> None:
    """Over a set: sum dx = 0, and sum dx * xhat = eps / (s2 + eps) / s * sum(weight * g * xhat).

    With s = sqrt(s2 + eps). For a mixture of two parts only the first holds, over N, H, W.
    """
    layer = scramble(family.make(factory)).double()
    x, g = 0.01 * input_for(family), input_for(family, seed=9)
    dx = backward(layer, x, g)["x"]
    scale = dx.abs().max().item()
    axes = family.spec.axes[0]
    found = reference.moments(axes, as_array(x), family.groups)
    sets = reference.statistic_sets(axes, tuple(x.shape), family.groups)
    for key, indices in sets.items():
        total = sum(dx[i].item() for i in indices)
        close_numbers(total, 0.0, TIGHT * scale * len(indices), f"sum of dx over set {key}")
        if has_gate(family):
            continue
        m, eps = found[key], layer.eps
        var = m.variance(family.spec.variance)
        s = (var + eps) ** 0.5
        xhat = {i: (x[i].item() - m.mean) / s for i in indices}
        left = sum(dx[i].item() * xhat[i] for i in indices)
        right = sum(layer.weight[i[1]].item() * g[i].item() * xhat[i] for i in indices)
        right *= eps / (var + eps) / s
        close_numbers(left, right, TIGHT * scale * len(indices), f"sum of dx * xhat over {key}")


@check()
def permutations_permute_the_output(family: Family, factory: Factory) -> None:
    """Images, and channels within a group, have no order."""
    for mode, training in MODES.items():
        layer = scramble(family.make(factory)).double().train(training)
        x = input_for(family)
        y = layer(x)
        images = torch.tensor([2, 0, 1])
        layer = scramble(family.make(factory)).double().train(training)
        close(layer(x[images]), y[images], TIGHT, f"output of permuted images in {mode}")

        # In one group alone: what is done to all may hide a wrong cut.
        size = family.channels // (family.groups if family.has_groups else 1)
        channels = torch.arange(family.channels)
        channels[:size] = channels[:size].flip(0)
        layer = scramble(family.make(factory)).double().train(training)
        with torch.no_grad():
            for t in (*layer.parameters(), *layer.buffers()):
                if t.shape == (family.channels,):
                    t.copy_(t[channels].clone())
        permuted = layer(x[:, channels])
        close(permuted, y[:, channels], TIGHT, f"output of permuted channels in {mode}")


@check()
def images_do_not_see_each_other(family: Family, factory: Factory) -> None:
    """Where no statistic crosses images, another image changes no bit of this one's output."""
    for mode, training in MODES.items():
        if any("N" in axes for axes in family.axes_in_use(training)):
            continue
        layer = scramble(family.make(factory)).train(training)
        x = input_for(family).float()
        changed = x.clone()
        changed[1] = 100 * draw(*x.shape[1:], seed=5).float() + 30
        before, after = layer(x), layer(changed)
        for i in (0, 2):
            assert torch.equal(before[i], after[i]), f"image {i} changed in {mode}"


# ---------------------------------------------------------------------------------------------
# Point 4: where a NaN may go.


@check()
def nan_stays_in_its_set(family: Family, factory: Factory) -> None:
    """One NaN reaches the values that share statistics with it, and no others."""
    where = (1, 2, 1, 3)
    for mode, training in MODES.items():
        layer = scramble(family.make(factory)).train(training)
        x = input_for(family).float()
        shape = tuple(x.shape)
        x[where] = torch.nan
        at = torch.zeros(shape, dtype=torch.bool)
        at[where] = True
        expected = sets_with(at, family, training)
        x.requires_grad_()
        y = layer(x)
        assert torch.equal(y.isnan(), expected), f"NaN of the output in {mode}"
        y.backward(torch.ones_like(y))
        # The derivative is constant in x where the statistics are, unless the formula bends.
        fixed = not family.axes_in_use(training) and not family.bends
        allowed = torch.zeros_like(at) if fixed else sets_with(expected, family, training)
        assert torch.equal(x.grad.isnan(), allowed), f"NaN of the gradient in {mode}"
        if training and family.has_running_statistics:
            poisoned = torch.arange(family.channels) == where[1]
            for name in {"running_mean", "running_var"} & set(family.spec.buffers):
                found = layer.get_buffer(name).isnan()
                # One variance for all channels is that of all values.
                by_channel = found.shape == poisoned.shape
                assert torch.equal(found, poisoned if by_channel else torch.tensor([True])), name


def sets_with(marked: Tensor, family: Family, training: bool) -> Tensor:
    """Every value of a set that has a marked one."""
    found = marked.clone()
    for axes in family.axes_in_use(training):
        for indices in reference.statistic_sets(axes, marked.shape, family.groups).values():
            among = tuple(zip(*indices, strict=True))
            if marked[among].any():
                found[among] = True
    return found


# ---------------------------------------------------------------------------------------------
# Point 6: the edges, and input that is refused.


@check()
def edges_have_a_value_or_a_clear_error(family: Family, factory: Factory) -> None:
    """One image, one pixel, no image, maps without pixels."""
    shapes = ((1, 3, 4), (3, 1, 1), (1, 1, 1), (2, 1, 5), (2, 0, 3), (0, 3, 4))
    for mode, training in MODES.items():
        for n, h, w in shapes:
            shape = (n, family.channels, h, w)
            layer = scramble(family.make(factory)).double().train(training)
            x, what = draw(*shape, seed=4), f"{shape} in {mode}"
            if h * w == 0:
                with refused("without pixels", what):
                    layer(x)
                continue
            if n == 0:
                if training and family.has_running_statistics:
                    with refused("empty batch", what):
                        layer(x)
                else:
                    empty_batch_passes(layer, x, what)
                continue
            sizes = [
                len(indices)
                for axes in family.axes_in_use(training)
                if axes in family.standardizing_axes
                for indices in reference.statistic_sets(axes, shape, family.groups).values()
            ]
            if 1 in sizes:
                with refused("more than one value", what):
                    layer(x)
                if family.has_running_statistics:
                    assert layer.num_batches_tracked == 0, f"a refused batch counted: {what}"
            else:
                expected = family.expected(layer, x)
                close(layer(x), expected, TIGHT, what)


def empty_batch_passes(layer: nn.Module, x: Tensor, what: str) -> None:
    x = x.clone().requires_grad_()
    try:
        y = layer(x)
    except ValueError as error:
        raise AssertionError(f"{what}: {error}") from error
    assert y.shape == x.shape, what
    y.sum().backward()
    for t in (x, *layer.parameters()):
        assert t.grad is not None, what
        assert bool((t.grad == 0).all()), what


@check()
def wrong_input_is_refused(family: Family, factory: Factory) -> None:
    """Other dimensions, channels or types end in a message that names them."""
    channels = family.channels
    for training in MODES.values():
        layer = family.make(factory).train(training)
        with refused("expects input of shape (N, C, H, W)", "three dimensions"):
            layer(torch.zeros(channels, 4, 4))
        with refused("expects input of shape (N, C, H, W)", "five dimensions"):
            layer(torch.zeros(2, channels, 4, 4, 4))
        with refused(f"was made for {channels} channels, got {channels + 1}", "channels"):
            layer(torch.zeros(2, channels + 1, 4, 4))
        for dtype in (torch.uint8, torch.int64, torch.bool, torch.complex64):
            with refused(f"expects floating-point input, got {dtype}", str(dtype)):
                layer(torch.zeros(2, channels, 4, 4, dtype=dtype))


# ---------------------------------------------------------------------------------------------
# Point 7: layouts.


def layouts(x: Tensor) -> Iterable[tuple[str, Tensor]]:
    """The same kinds of values as ``x`` in every layout that a network may produce."""
    n, c, h, w = x.shape
    yield "contiguous", x
    yield "channels_last", x.contiguous(memory_format=CHANNELS_LAST)
    yield "sliced", draw(n, c, 2 * h, w + 3, seed=6)[:, :, ::2, 2:-1]
    yield "channel slice", draw(n, 3 * c, h, w, seed=6)[:, c : 2 * c]
    yield "transposed", draw(n, c, w, h, seed=6).transpose(2, 3)
    yield "images and channels swapped", draw(c, n, h, w, seed=6).transpose(0, 1)
    yield "expanded images", x[:1].expand(n, c, h, w)
    yield "expanded channels", x[:, :1].expand(n, c, h, w)
    yield "expanded rows", x[:, :, :1].expand(n, c, h, w)


@check()
def layout_changes_no_value(family: Family, factory: Factory) -> None:
    """Any layout of the input gives the same output and gradients."""
    for mode, training in MODES.items():
        for name, x in layouts(input_for(family)):
            what = f"{name} in {mode}"
            g = input_for(family, seed=9)
            plain = x.contiguous()
            layer = scramble(family.make(factory)).double().train(training)
            again = scramble(family.make(factory)).double().train(training)
            before = x.clone()
            y = layer(x)
            assert torch.equal(x, before), f"input overwritten: {what}"
            close(y, again(plain), TIGHT, f"output, {what}")
            for g_format in (torch.contiguous_format, CHANNELS_LAST):
                found = backward(layer, x, g.contiguous(memory_format=g_format))
                for key, expected in backward(again, plain, g).items():
                    close(found[key], expected, TIGHT * 10, f"gradient of {key}, {what}")


@check()
def memory_format_is_kept(family: Family, factory: Factory) -> None:
    """Output and gradient have the memory format of the input, in every type."""
    for training in MODES.values():
        for dtype in (torch.float64, *LOW):
            layer = scramble(family.make(factory)).train(training)
            for memory_format in (torch.contiguous_format, CHANNELS_LAST):
                x = input_for(family).to(dtype).contiguous(memory_format=memory_format)
                x.requires_grad_()
                y = layer(x)
                assert y.is_contiguous(memory_format=memory_format), (
                    f"output of {memory_format} in {dtype} has strides {y.stride()}"
                )
                # From inside autograd, where no accumulation restores the format.
                (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
                assert dx.is_contiguous(memory_format=memory_format), (
                    f"gradient of {memory_format} in {dtype} has strides {dx.stride()}"
                )


@check(normalizes)
def output_is_its_own(family: Family, factory: Factory) -> None:
    """An activation in place after the layer changes neither the input nor the gradients."""
    for training in MODES.values():
        layer, again = (scramble(family.make(factory)).double().train(training) for _ in range(2))
        x, g = input_for(family).requires_grad_(), input_for(family, seed=9)
        expected = torch.autograd.grad(layer(x).relu(), x, g)[0]
        kept = x.detach().clone()
        y = again(x)
        try:
            found = torch.autograd.grad(y.relu_(), x, g)[0]
        except RuntimeError as error:  # autograd finds what it kept overwritten
            raise AssertionError(str(error)) from error
        assert torch.equal(x, kept)
        close(found, expected, TIGHT, "gradient through an activation in place")


@check()
def autocast_changes_nothing(family: Family, factory: Factory) -> None:
    """Statistics stay in float32 and the output in the input's type: autocast has no say."""
    for training in MODES.values():
        for dtype in (torch.float32, torch.bfloat16):
            x = input_for(family).to(dtype)
            plain = scramble(family.make(factory)).train(training)
            inside = scramble(family.make(factory)).train(training)
            with torch.autocast("cpu", torch.bfloat16):
                y = inside(x)
            assert torch.equal(y, plain(x))
            assert y.dtype == dtype


# ---------------------------------------------------------------------------------------------
# Point 8: state.


@check()
def state_is_declared(family: Family, factory: Factory) -> None:
    """Parameters start as the counterpart's do, and buffers are those of the spec."""
    layer = family.make(factory)
    expected = dict(family.counterpart().named_parameters())
    parameters = dict(layer.named_parameters())
    assert set(parameters) == set(expected)
    for name, start in expected.items():
        assert parameters[name].shape == start.shape, f"shape of {name}"
        assert bool((parameters[name] == start).all()), f"{name} starts at {start.flatten()[0]:g}"
        assert parameters[name].requires_grad, name
    buffers = dict(layer.named_buffers())
    assert tuple(buffers) == family.spec.buffers
    assert set(layer.state_dict()) == {*expected, *buffers}, "lost from the state dict"
    assert not any(t.requires_grad for t in buffers.values())
    if family.has_running_statistics:
        assert "running_mean" not in buffers or bool((buffers["running_mean"] == 0).all())
        assert bool((buffers["running_var"] == 1).all())
        assert buffers["num_batches_tracked"] == 0
    if family.has_affine:
        bare = family.make(factory, affine=False)
        assert set(dict(bare.named_parameters())) == set(expected) - {"weight", "bias"}
        assert bare.weight is None
        assert bare.bias is None


@check(has_running_statistics)
def running_statistics_match_closed_form(family: Family, factory: Factory) -> None:
    """After five steps they are what the closed form of the moving average says."""
    for momentum in (0.1, 0.3, 0.0, 1.0, None):
        layer = scramble(family.make(factory, momentum=momentum)).double()
        start = {name: as_array(t).copy() for name, t in layer.named_buffers()}
        batches = [input_for(family, seed=s) * s + s for s in range(1, 6)]
        for batch in batches:
            layer(batch)
        mean, var, counted = reference.moving_average(
            family.spec,
            [as_array(tracked(layer, b)) for b in batches],
            start.get("running_mean", np.zeros(family.channels)),
            start["running_var"],
            momentum,
            family.groups,
        )
        what = f"after five steps with momentum {momentum}"
        if "running_mean" in family.spec.buffers:
            close(layer.running_mean, torch.from_numpy(mean), TIGHT, f"running mean {what}")
            assert not layer.running_mean.requires_grad
            assert layer.running_mean.grad_fn is None
        close(layer.running_var, torch.from_numpy(var), TIGHT, f"running variance {what}")
        assert layer.num_batches_tracked == counted
        assert not layer.running_var.requires_grad
        assert layer.running_var.grad_fn is None


@check()
def evaluation_changes_nothing(family: Family, factory: Factory) -> None:
    """Two evaluations are equal to the bit, and state stays as it is."""
    layer = scramble(family.make(factory)).eval()
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    x = input_for(family).float()
    first = layer(x)
    with torch.no_grad():
        second = layer(x)
    assert torch.equal(first, second), "two evaluations differ"
    for name, t in layer.state_dict().items():
        assert torch.equal(t, before[name]), f"evaluation changed {name}"


@check()
def training_keeps_parameters(family: Family, factory: Factory) -> None:
    """A forward in training moves the buffers of the spec and replaces nothing."""
    layer = scramble(family.make(factory))
    tensors = dict(layer.state_dict(keep_vars=True))
    before = {name: t.detach().clone() for name, t in tensors.items()}
    layer(input_for(family).float())
    after = dict(layer.state_dict(keep_vars=True))
    assert all(after[name] is t for name, t in tensors.items()), "a tensor was replaced"
    moved = {name for name, t in tensors.items() if not torch.equal(t, before[name])}
    assert moved == (set(family.spec.buffers) if family.spec.momentum else set())


@check(has_twin)
def state_dict_interchanges_with_twin(family: Family, factory: Factory) -> None:
    """State goes into PyTorch's layer and back, and both compute the same."""
    for training in (False, True):
        layer = scramble(family.make(factory)).double()
        layer(input_for(family))  # statistics that one step has moved
        layer.train(training)
        twin = family.counterpart().double().train(training)
        x = input_for(family, seed=8)
        try:
            twin.load_state_dict(layer.state_dict(), strict=True)
            back = family.make(factory).double().train(training)
            back.load_state_dict(twin.state_dict(), strict=True)
        except RuntimeError as error:
            raise AssertionError(str(error)) from error
        for name, t in layer.state_dict().items():
            assert torch.equal(t, back.state_dict()[name]), name
        y = layer(x)
        close(twin(x), y, TIGHT, "output of the twin with the layer's state")
        assert torch.equal(back(x), y)


@check()
def copies_are_equal_and_apart(family: Family, factory: Factory) -> None:
    """deepcopy, and a state dict loaded into a fresh layer."""
    layer = scramble(family.make(factory))
    x = input_for(family).float()
    layer(x)
    loaded = family.make(factory)
    loaded.load_state_dict(layer.state_dict(), strict=True)
    for other in (copy.deepcopy(layer), loaded):
        assert torch.equal(other.eval()(x), layer.eval()(x)), "a copy computes something else"
        before = {name: t.clone() for name, t in layer.state_dict().items()}
        other.train()(x + 1)
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        for name, t in layer.state_dict().items():
            assert torch.equal(t, before[name]), f"{name} is shared with the copy"


# ---------------------------------------------------------------------------------------------
# A batch that several processes divide.

PARTS = ((1, 2), (2, 0, 1))


@check(has_running_statistics)
def a_divided_batch_counts_as_one(family: Family, factory: Factory) -> None:
    """Parts of unequal size, and none at all, make what the whole makes: output, gradients, and
    running statistics on every process."""
    x, g = input_for(family), input_for(family, seed=9)
    layer = scramble(family.make(factory)).double()
    y, expected = layer(x), backward(scramble(family.make(factory)).double(), x, g)
    ways = (True, False) if issubclass(family.spec.layer, SyncBatchNorm2d) else (True,)
    for counts in PARTS:
        for by_all in ways:
            what = f"for parts of {counts} images, by_all={by_all}"
            found = in_parts(lambda: scramble(family.make(factory)).double(), x, g, counts, by_all)
            outputs, gradients, layers = zip(*found, strict=True)
            close(torch.cat(outputs), y, TIGHT * 10, f"output {what}")
            for name, whole in expected.items():
                own = [found[name] for found in gradients]
                joined = torch.cat(own) if name == "x" else torch.stack(own).sum(0)
                close(joined, whole, GRADIENT, f"gradient of {name} {what}")
            for other in layers:
                for name, buffer in layer.named_buffers():
                    close(other.get_buffer(name), buffer, TIGHT * 10, f"{name} {what}")


def in_parts(
    make: Callable[[], nn.Module], x: Tensor, g: Tensor, counts: tuple[int, ...], by_all: bool
) -> list[tuple[Tensor, dict[str, Tensor], nn.Module]]:
    """What each process makes of its part: output, gradients, and the layer.

    The processes go one after the other, again and again: each finds in a sum what the others put
    there the time before, until nobody puts in anything else.
    """
    before: list[list[Tensor]] = [[] for _ in counts]
    while True:
        given: list[list[Tensor]] = [[] for _ in counts]
        found = []
        for rank, own in enumerate(
            zip(torch.split(x, counts), torch.split(g, counts), strict=True)
        ):
            total = _Total(given[rank], [put for r, put in enumerate(before) if r != rank])
            with pooled_over(Division(total, rank, counts), by_all=by_all):
                layer = make()
                part = own[0].detach().clone().requires_grad_()
                named = {"x": part, **dict(layer.named_parameters())}
                y = layer(part)
                grads = torch.autograd.grad(
                    y, list(named.values()), own[1], allow_unused=True, materialize_grads=True
                )
                found.append((y.detach(), dict(zip(named, grads, strict=True)), layer))
        settled = all(
            len(one) == len(two) and all(map(torch.equal, one, two))
            for one, two in zip(before, given, strict=True)
        )
        if settled:
            return found
        before = given


@dataclass(frozen=True)
class _Total:
    """A sum over processes: what this one puts in, and what each other did the time before."""

    own: list[Tensor]
    others: list[list[Tensor]]

    def __call__(self, t: Tensor) -> Tensor:
        index = len(self.own)
        self.own.append(t.detach().clone())
        known = [put[index] for put in self.others if index < len(put)]
        return torch.stack([t.detach(), *known]).sum(0)


# ---------------------------------------------------------------------------------------------
# The gate of batch-instance normalization.


@check(has_gate)
def gate_needs_are_declared(family: Family, factory: Factory) -> None:
    """The gate learns faster, does not decay, and is clamped."""
    needs: Any = getattr(family.make(factory), "optimizer_needs", {})
    assert dict(needs) == {
        "gate": ParameterNeeds(lr_scale=10.0, weight_decay=False, clamp=(0.0, 1.0))
    }


@check(has_gate)
def clamp_gate_puts_the_gate_back(family: Family, factory: Factory) -> None:
    """Values beyond the bounds come back, in the same parameter."""
    layer: Any = family.make(factory)
    gate = layer.gate
    with torch.no_grad():
        gate.copy_(torch.linspace(-0.5, 1.5, family.channels))
    expected = gate.detach().clamp(0, 1)
    layer.clamp_gate()
    assert layer.gate is gate, "the optimizer holds the old gate"
    assert torch.equal(gate.detach(), expected)
    assert gate.requires_grad


@check(has_gate)
def forward_does_not_clamp_the_gate(family: Family, factory: Factory) -> None:
    """Beyond the bounds the output goes on linearly and the gradient lives."""
    for mode, training in MODES.items():
        layer: Any = scramble(family.make(factory)).double().train(training)
        gate = layer.gate
        with torch.no_grad():
            gate.copy_(torch.linspace(-0.7, 1.6, family.channels))
        values = gate.detach().clone()
        x, g = input_for(family), input_for(family, seed=9)
        other = same_state(family.counterpart(), layer)
        found, expected = backward(layer, x, g), backward(other, x, g)
        close(found["gate"], expected["gate"], GRADIENT, f"gradient of the gate in {mode}")
        assert layer.gate is gate
        assert torch.equal(gate.detach(), values), "forward changed the gate"
        again = same_state(family.make(factory), layer)
        close(again(x), family.expected(again, x), TIGHT, f"output beyond the bounds in {mode}")


# ---------------------------------------------------------------------------------------------
# Point 10: what is kept for backward.


@check(is_not_lean)
def keeps_what_its_spec_says(family: Family, factory: Factory) -> None:
    """Bytes kept for backward in float32, in activations of the input's size."""
    layer = family.make(factory)
    x = draw(4, family.channels, 8, 8).float().requires_grad_()
    _, distinct = saved_bytes(layer.train(), x)
    size = 4 * x.numel()
    # Statistics and parameters are small beside activations, but here not nothing.
    small = 16 * 4 * sets_of(family, x) + 4 * sum(t.numel() for t in layer.parameters())
    assert distinct <= family.spec.kept * size + small, f"{distinct / size:.2f} activations kept"
    assert distinct > (family.spec.kept - 1) * size, f"only {distinct / size:.2f} activations kept"


@check(is_lean)
def saves_no_more_than_torch(family: Family, factory: Factory) -> None:
    """Bytes kept for backward, each time something is kept and by distinct storage.

    Where torch.nn has no such layer, the limit is what the formula needs: the input, the
    parameters (as float32 at least, and so buffers in their place), and two numbers (a mean and a
    factor) for each set of each part.

    In a model that is 16-bit throughout, PyTorch also rounds its statistics to 16 bits; float32
    statistics, the rule here, may take two more bytes per value.
    """
    n, size = 4, 8
    for dtype in LOW:
        for parameters in {torch.float32, dtype}:
            for layout in (torch.contiguous_format, CHANNELS_LAST):
                for training in MODES.values():
                    x = draw(n, family.channels, size, size).to(dtype)
                    x = x.contiguous(memory_format=layout).requires_grad_()
                    layer = family.make(factory).to(parameters).train(training)
                    if has_twin(family):
                        twin = family.counterpart().to(parameters)
                        limits = saved_bytes(twin, x)
                        if parameters.itemsize == 2 and family.normalizes:
                            extra = 2 * 2 * sets_of(family, x, family.spec.axes[:1])
                            limits = limits[0] + extra, limits[1] + extra
                    else:
                        kept = x.numel() * x.element_size() + 2 * 4 * sets_of(family, x)
                        sizes = [(t.numel(), t.element_size()) for t in layer.parameters()]
                        kept += sum(number * max(4, size) for number, size in sizes)
                        if not family.has_running_statistics:
                            kept += sum(t.numel() * 4 for t in layer.buffers())
                        limits = kept, kept
                    what = f"{dtype}, {parameters} parameters, {layout}, training={training}"
                    ours = saved_bytes(layer, x)
                    for way, mine, limit in zip(("naive", "distinct"), ours, limits, strict=True):
                        assert mine <= limit, f"{mine} bytes kept ({way}), limit {limit}: {what}"


def sets_of(family: Family, x: Tensor, axes: tuple[str, ...] | None = None) -> int:
    """How many sets of statistics an input has, over all parts unless these are given."""
    parts = family.spec.axes if axes is None else axes
    shape = tuple(x.shape)
    return sum(len(reference.statistic_sets(part, shape, family.groups)) for part in parts)


def saved_bytes(layer: nn.Module, x: Tensor) -> tuple[int, int]:
    """Bytes kept for backward: summed over every tensor kept, and over distinct storages.

    Tensors that a Python function hangs on its node, past the hooks, count too, unless they are
    parameters or buffers.
    """
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = layer(x)
    owned = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    for node in nodes_before(y):
        for t in tensors_in(getattr(node, "__dict__", {})):
            if t.untyped_storage().data_ptr() not in owned:
                kept.append(t)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(t.numel() * t.element_size() for t in kept), sum(storages.values())


def nodes_before(y: Tensor) -> Iterator[Any]:
    todo, seen = [y.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        todo += [following for following, _ in node.next_functions]


def tensors_in(thing: object) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, dict):
        for part in thing.values():
            yield from tensors_in(part)
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from tensors_in(part)


# ---------------------------------------------------------------------------------------------
# Helpers.


def tracked(layer: nn.Module, x: Tensor) -> Tensor:
    """The channels that have running statistics, which are the last ones where not all have."""
    running = getattr(layer, "running_mean", None)
    return x[:, -len(layer.running_var if running is None else running) :]


def input_for(family: Family, *, size: int = 4, seed: int = 0) -> Tensor:
    """Three images in float64, a rectangle unless a size is given; mean and scale vary."""
    h, w = (size, size) if size > 4 else (size, size + 1)
    x = draw(3, family.channels, h, w, seed=seed)
    return x * (1 + draw(1, family.channels, 1, 1, seed=50).abs()) + draw(3, 1, 1, 1, seed=51)


def backward(layer: nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor]:
    """Gradients of sum(g * y), by name of parameter and "x"."""
    x = x.detach().requires_grad_()
    named = {"x": x, **dict(layer.named_parameters())}
    found = torch.autograd.grad(layer(x), list(named.values()), g, allow_unused=True)
    for name, d in zip(named, found, strict=True):
        assert d is not None, f"no gradient reaches {name}"
    return dict(zip(named, found, strict=True))


def same_names(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)


def close(found: Tensor, expected: Tensor, bound: float, what: str) -> None:
    """Within the bound, relative to the largest value where that is above 1."""
    within(found, expected, bound * max(1.0, expected.abs().max().item()), what)


def within(found: Tensor, expected: Tensor, bound: float, what: str) -> None:
    """Largest difference within the bound, in a form that a NaN fails."""
    assert found.shape == expected.shape, f"{what}: {found.shape}, expected {expected.shape}"
    error = (found.detach().double() - expected.detach().double()).abs().max().item()
    assert error <= bound, f"{what}: off by {error:.3g}, allowed {bound:.3g}"


def close_numbers(found: float, expected: float, bound: float, what: str) -> None:
    assert abs(found - expected) <= bound, f"{what}: {found!r}, expected {expected!r}"


@contextmanager
def refused(message: str, what: str) -> Iterator[None]:
    """The block raises a ValueError whose text contains the message."""
    raised: Exception | None = None
    try:
        yield
    except Exception as error:
        raised = error
    assert raised is not None, f"{what}: accepted"
    assert isinstance(raised, ValueError), f"{what}: {raised!r}"
    assert message in str(raised), f"{what}: unclear error: {raised}"
