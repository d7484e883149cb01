"""The two ways of the core, the readable definition and the lean function, held together."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normlab.norms._core import Pool, definition, statistics_dtype

from .checks import close, normalized, within
from .families import draw

pytestmark = pytest.mark.usefixtures("each_way")

CHANNELS = 6
EPS = 1e-5


@dataclass(frozen=True)
class Arrangement:
    """One use of the core: its pools, and whether a gate mixes two of them."""

    name: str
    pools: tuple[Pool | None, ...]

    @property
    def gated(self) -> bool:
        return len(self.pools) > 1

    @property
    def fixed(self) -> bool:
        return None in self.pools

    @property
    def centred(self) -> bool:
        return all(pool is None or pool.centred for pool in self.pools)


BATCH, MAP = Pool(batch=True), Pool(groups=CHANNELS)
ARRANGEMENTS = [
    Arrangement("batch", (BATCH,)),
    Arrangement("map", (MAP,)),
    Arrangement("image", (Pool(groups=1),)),
    Arrangement("group", (Pool(groups=2),)),
    Arrangement("fixed", (None,)),
    Arrangement("batch and map", (BATCH, MAP)),
    Arrangement("fixed and map", (None, MAP)),
    Arrangement("image about 0", (Pool(groups=1, centred=False),)),
    Arrangement("batch and map about 0", (BATCH, Pool(groups=CHANNELS, centred=False))),
]
each_arrangement = pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=lambda a: a.name)
# Statistics that are given are no better than their float32 values, and do not follow the input.
each_arrangement_of_its_own = pytest.mark.parametrize(
    "arrangement", [a for a in ARRANGEMENTS if not a.fixed], ids=lambda a: a.name
)
each_centred_arrangement = pytest.mark.parametrize(
    "arrangement",
    [a for a in ARRANGEMENTS if a.centred and not a.fixed],
    ids=lambda a: a.name,
)
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)

Normalize = Callable[..., tuple[Tensor, Tensor, Tensor]]


def lean(x: Tensor, arrangement: Arrangement, **named: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return normalized(
        x,
        named.get("weight"),
        named.get("bias"),
        arrangement.pools,
        EPS,
        gate=named.get("gate"),
        fixed=fixed_statistics(arrangement, x.dtype),
    )


def plain(x: Tensor, arrangement: Arrangement, **named: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return definition(
        x,
        named.get("weight"),
        named.get("bias"),
        named.get("gate"),
        fixed_statistics(arrangement, x.dtype),
        arrangement.pools,
        EPS,
    )


def fixed_statistics(arrangement: Arrangement, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    if not arrangement.fixed:
        return None
    mean, var = draw(CHANNELS, seed=21), 0.5 + draw(CHANNELS, seed=22).square()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return mean.to(wide), var.to(wide)


def inputs_for(
    arrangement: Arrangement, dtype: torch.dtype, *, affine: bool = True
) -> dict[str, Tensor]:
    """Leaves: x in the type, parameters in float32 (float64 for float64), as layers have them."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    named = {"x": (draw(3, CHANNELS, 4, 5, seed=1) + draw(3, 1, 1, 1, seed=2)).to(dtype)}
    if affine:
        named["weight"] = (1 + 0.5 * draw(CHANNELS, seed=3)).to(wide)
        named["bias"] = draw(CHANNELS, seed=4).to(wide)
    if arrangement.gated:
        named["gate"] = draw(CHANNELS, seed=5).sigmoid().to(wide)
    return {name: t.requires_grad_() for name, t in named.items()}


def outcome(f: Normalize, arrangement: Arrangement, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Output, statistics, gradients, and gradients of a function of the gradients."""
    y, mean, var = f(arrangement=arrangement, **named)
    g = draw(*y.shape, seed=6).to(y.dtype)
    leaves = list(named.values())
    once = torch.autograd.grad(y, leaves, g, retain_graph=True)
    again = torch.autograd.grad(y, leaves, g, create_graph=True)
    total = sum((d.double() * draw(*d.shape, seed=30 + i)).sum() for i, d in enumerate(again))
    if total.requires_grad:
        twice = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    else:  # the layer is linear: fixed statistics and nothing learned
        twice = tuple(torch.zeros_like(t) for t in leaves)
    found = {"y": y, "mean": mean, "var": var}
    found |= {f"d {name}": d for name, d in zip(named, once, strict=True)}
    found |= {f"d {name}, differentiable": d for name, d in zip(named, again, strict=True)}
    found |= {f"d2 {name}": d for name, d in zip(named, twice, strict=True)}
    return found


# Relative to the largest value of each tensor. float32 work is done in another order, so a few
# units in the last place; a 16-bit result is rounded once at the end, so one unit.
BOUNDS = {torch.float64: 1e-12, torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10}


@each_arrangement
@each_dtype
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "bare"])
def test_lean_function_is_the_definition(
    arrangement: Arrangement, dtype: torch.dtype, affine: bool
) -> None:
    named = inputs_for(arrangement, dtype, affine=affine)
    expected = outcome(plain, arrangement, named)
    found = outcome(lean, arrangement, named)
    for name, truth in expected.items():
        assert found[name].dtype == truth.dtype, name
        bound = BOUNDS[truth.dtype] * max(1.0, truth.abs().max().item())
        if name.startswith("d2"):
            # The incoming first derivatives have been rounded to the input's type.
            bound = max(bound, BOUNDS[dtype] * 4 * max(1.0, truth.abs().max().item()))
        within(found[name], truth, bound, name)


@each_arrangement
def test_eager_mode_uses_the_lean_function(arrangement: Arrangement) -> None:
    y, mean, var = lean(arrangement=arrangement, **inputs_for(arrangement, torch.float32))
    assert "_Lean" in type(y.grad_fn).__name__
    assert not mean.requires_grad
    assert not var.requires_grad


@each_arrangement
def test_every_choice_of_what_is_learned(arrangement: Arrangement) -> None:
    """Freezing some of x, weight, bias and gate changes nothing for the others."""
    reference = inputs_for(arrangement, torch.float64)
    y = plain(arrangement=arrangement, **reference)[0]
    g = draw(*y.shape, seed=6)
    expected = dict(
        zip(reference, torch.autograd.grad(y, list(reference.values()), g), strict=True)
    )
    for size in range(1, len(reference)):
        for learned in itertools.combinations(reference, size):
            named = {n: t.detach().requires_grad_(n in learned) for n, t in reference.items()}
            out = lean(arrangement=arrangement, **named)[0]
            for create_graph in (False, True):
                found = torch.autograd.grad(
                    out,
                    [named[n] for n in learned],
                    g,
                    retain_graph=True,
                    create_graph=create_graph,
                )
                for name, d in zip(learned, found, strict=True):
                    close(d, expected[name], 1e-12, f"{name} when {learned} are learned")


@each_arrangement
@pytest.mark.parametrize("create_graph", [False, True], ids=["first", "differentiable"])
def test_inputs_that_depend_on_each_other_count_once(
    arrangement: Arrangement, create_graph: bool
) -> None:
    """A weight computed from the input, and one tensor used as weight and as bias."""

    def total(f: Normalize, x: Tensor, w: Tensor) -> Tensor:
        gate = {"gate": x.mean((0, 2, 3)).sigmoid()} if arrangement.gated else {}
        tied = w * x.square().mean((0, 2, 3))
        y = f(x, arrangement, weight=tied, bias=tied, **gate)[0]
        return (y * draw(*y.shape, seed=6)).sum()

    leaves = inputs_for(arrangement, torch.float64)
    x, w = leaves["x"], leaves["weight"]
    results = []
    for f in (plain, lean):
        first = torch.autograd.grad(total(f, x, w), (x, w), create_graph=create_graph)
        results.append([d.detach() for d in first])
        if create_graph:
            inner = sum((d * draw(*d.shape, seed=7)).sum() for d in first)
            results[-1] += torch.autograd.grad(inner, (x, w))
    for i, (expected, found) in enumerate(zip(*results, strict=True)):
        close(found, expected, 1e-11, f"derivative {i}")


@pytest.mark.parametrize("f", [lean, plain], ids=["lean", "definition"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [1, 2, CHANNELS])
def test_a_pool_about_0_takes_the_mean_square(
    groups: int, dtype: torch.dtype, f: Normalize
) -> None:
    arrangement = Arrangement("about 0", (Pool(groups=groups, centred=False),))
    for offset in (0.0, 100.0):
        named = inputs_for(arrangement, dtype)
        named["x"] = (named["x"].detach() + offset).requires_grad_()
        exact = {name: t.detach().double().requires_grad_() for name, t in named.items()}
        x = exact["x"].view(3, groups, -1)
        square = x.square().mean(2, keepdim=True)
        scaled = (x / (square + EPS).sqrt()).view_as(named["x"])
        y = scaled * exact["weight"].view(1, -1, 1, 1) + exact["bias"].view(1, -1, 1, 1)
        g = draw(*y.shape, seed=6).to(dtype)
        truth = torch.autograd.grad(y, list(exact.values()), g.double())
        found, mean, var = f(arrangement=arrangement, **named)
        grads = torch.autograd.grad(found, list(named.values()), g)
        close(found, y, BOUNDS[dtype], f"output at {offset}")
        close(var, square.view_as(var), BOUNDS[mean.dtype], f"mean square at {offset}")
        assert not mean.any()
        for name, ours, theirs in zip(named, grads, truth, strict=True):
            close(ours, theirs, BOUNDS[ours.dtype], f"gradient of {name} at {offset}")


def test_a_pool_over_the_batch_is_centred() -> None:
    with pytest.raises(ValueError, match="a pool over the batch is centred"):
        Pool(batch=True, centred=False)


def test_output_without_gradient_is_none() -> None:
    """Only the statistics used, nothing to differentiate: no error, no gradient."""
    x = draw(2, 4, 3, 3).requires_grad_()
    y, mean, var = normalized(x, None, None, (BATCH,), EPS)
    (y * 0 + 1).sum().backward()
    assert bool((x.grad == 0).all())
    assert mean.shape == var.shape == (1, 4, 1, 1)


@each_arrangement_of_its_own
@pytest.mark.parametrize("f", [lean, plain], ids=["lean", "definition"])
def test_float32_keeps_its_digits_far_from_zero(arrangement: Arrangement, f: Normalize) -> None:
    """With a mean of 1e4 and a deviation of 1 the mean alone has an error of 5e-4 in float32.

    The output has not: what rounding left out of the mean is measured and put back.
    """
    named = inputs_for(arrangement, torch.float32)
    named["x"] = named["x"].detach() + 1e4
    exact = {name: t.detach().double() for name, t in named.items()}
    truth = plain(arrangement=arrangement, **exact)[0]
    within(f(arrangement=arrangement, **named)[0], truth, 4e-6, "output at an offset of 1e4")


@each_centred_arrangement
@pytest.mark.parametrize("f", [lean, plain], ids=["lean", "definition"])
def test_constant_input_gives_the_bias(arrangement: Arrangement, f: Normalize) -> None:
    named = inputs_for(arrangement, torch.float32)
    # Not a round number in binary: its mean over 20 values is rounded.
    for value in (1234.5678, 123456.789):
        named["x"] = torch.full_like(named["x"], value)
        y, mean, var = f(arrangement=arrangement, **named)
        within(y, named["bias"].view(1, -1, 1, 1).expand_as(y), 1e-6, f"output of {value}")
        within(mean, named["x"][:1, :1, :1, :1].expand_as(mean), 1e-7 * value, "mean")
        within(var, torch.zeros_like(var), 1e-8, f"variance of {value}")


@each_arrangement_of_its_own
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dead_maps_among_others_far_away(arrangement: Arrangement, dtype: torch.dtype) -> None:
    """A map of zeros has no part in the gradients of what is divided by its deviation.

    Centred on the mean of the batch it would have: rounding, times 1 / sqrt(eps).
    """
    named = inputs_for(arrangement, dtype)
    x = 1000 + 50 * named["x"].detach()
    x[0] = 0
    named["x"] = x.requires_grad_()
    g = draw(*x.shape, seed=6).to(dtype)
    exact = {name: t.detach().double().requires_grad_() for name, t in named.items()}
    truth = torch.autograd.grad(
        plain(arrangement=arrangement, **exact)[0], list(exact.values()), g.double()
    )
    found = torch.autograd.grad(lean(arrangement=arrangement, **named)[0], list(named.values()), g)
    for name, ours, expected in zip(named, found, truth, strict=True):
        bound = torch.finfo(ours.dtype).eps if name == "x" else 4e-6
        within(ours, expected, bound * expected.abs().max().item() + 4e-6, f"gradient of {name}")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 4),
    groups=st.integers(1, 3),
    channels_per_group=st.integers(1, 3),
    height=st.integers(1, 4),
    width=st.integers(2, 5),
    offset=st.sampled_from([0.0, -3.0, 1e4]),
    batch=st.booleans(),
    channels_last=st.booleans(),
)
def test_any_shape(
    images: int,
    groups: int,
    channels_per_group: int,
    height: int,
    width: int,
    offset: float,
    batch: bool,
    channels_last: bool,
) -> None:
    channels = groups * channels_per_group
    pool = Pool(batch=True) if batch else Pool(groups=groups)
    x = draw(images, channels, height, width, seed=1) + offset
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight, bias = draw(channels, seed=2), draw(channels, seed=3)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    y, mean, var = normalized(x, weight, bias, (pool,), EPS)
    z, mean_, var_ = definition(x, weight, bias, None, None, (pool,), EPS)
    close(y, z, 1e-11, "output")
    close(mean, mean_, 1e-12, "mean")
    close(var, var_, 1e-11, "variance")
    g = draw(*y.shape, seed=4)
    # At an offset of 1e4 float64 keeps twelve digits of the deviations.
    for found, expected in zip(
        torch.autograd.grad(y, leaves, g), torch.autograd.grad(z, leaves, g), strict=True
    ):
        close(found, expected, 1e-9 if offset == 1e4 else 1e-11, "gradient")


@pytest.mark.parametrize("pool", [BATCH, MAP, Pool(groups=1), Pool(groups=3)], ids=str)
def test_pooling_is_a_symmetric_projection(pool: Pool) -> None:
    """That is why one pooling serves forward and backward."""

    def project(t: Tensor) -> Tensor:
        return pool.spread(pool.mean(t), CHANNELS).expand_as(t)

    a, b = draw(3, CHANNELS, 1, 1, seed=1), draw(3, CHANNELS, 1, 1, seed=2)
    close(project(project(a)), project(a), 1e-15, "pooled twice")
    close((project(a) * b).sum(), (a * project(b)).sum(), 1e-13, "symmetry")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
    ids=str,
)
def test_statistics_are_at_least_float32(dtype: torch.dtype, expected: torch.dtype) -> None:
    x = draw(2, CHANNELS, 3, 3).to(dtype)
    assert statistics_dtype(x) == expected
    for arrangement in ARRANGEMENTS:
        if not arrangement.fixed:
            _, mean, var = lean(x, arrangement, **inputs_without_x(arrangement, dtype))
            assert mean.dtype == var.dtype == expected


def inputs_without_x(arrangement: Arrangement, dtype: torch.dtype) -> dict[str, Tensor]:
    named = inputs_for(arrangement, dtype)
    del named["x"]
    return named
