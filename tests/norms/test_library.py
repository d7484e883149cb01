"""Every layer of the catalogue in other people's code, as docs/library.md says.

What PyTorch's own layer would do is the subject of ``test_stands_in``; here a layer is held
against itself, used plainly, so that methods which torch.nn does not have are included.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, stack_module_state, vjp, vmap
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

from normlab.norms import BatchNorm2d
from normlab.norms.synchronized import among_processes, pooled_over
from several import in_processes, results

from .checks import close
from .families import FAMILIES, MODES, Family, draw, scramble

PAGE = Path(__file__).parents[2] / "docs/library.md"

each = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
each_mode = pytest.mark.parametrize("training", MODES.values(), ids=MODES)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*:DeprecationWarning")

State = dict[str, Tensor]


def layer_of(family: Family, training: bool = True, seed: int = 1) -> nn.Module:
    return scramble(family.make(), seed).double().train(training)


def example(family: Family, seed: int = 0) -> Tensor:
    return draw(4, family.channels, 4, 3, seed=seed) * (1 + seed) + seed


def buffers_of(layer: nn.Module) -> State:
    return {name: t.clone() for name, t in layer.named_buffers()}


def same(found: State, expected: State, what: str) -> None:
    assert found.keys() == expected.keys(), what
    for name, t in expected.items():
        close(found[name], t, 1e-9, f"{what}, {name}")


def moves(family: Family) -> bool:
    """Whether a training pass changes buffers."""
    layer = layer_of(family)
    before = buffers_of(layer)
    layer(example(family))
    return any(not torch.equal(t, before[name]) for name, t in layer.named_buffers())


MOVING = [family for family in FAMILIES.values() if moves(family)]
each_moving = pytest.mark.parametrize("family", MOVING, ids=lambda family: family.name)


def from_page(name: str) -> Callable[..., Any]:
    """A function that the page shows."""
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if f"def {name}(" in block
    )
    known: dict[str, Any] = {}
    exec(code, known)
    made: Callable[..., Any] = known[name]
    return made


# ---------------------------------------------------------------------------------------------
# torch.func.


def as_function(layer: nn.Module) -> tuple[Callable[[State, Tensor], Tensor], State]:
    """The layer as a function of its parameters, with buffers of its own in every call."""
    parameters = {name: p.detach().clone() for name, p in layer.named_parameters()}
    return functools.partial(from_page("output"), layer), parameters


@each
@each_mode
def test_grad_and_jvp(family: Family, training: bool) -> None:
    layer, x, g = layer_of(family, training), example(family), example(family, seed=2)
    before = buffers_of(layer)
    f, parameters = as_function(layer)
    of_parameters, of_x = grad(lambda p, x: (g * f(p, x)).sum(), argnums=(0, 1))(parameters, x)
    same(buffers_of(layer), before, "the layer is as it was")
    named = dict(layer.named_parameters())
    x.requires_grad_()
    expected = torch.autograd.grad((g * layer(x)).sum(), [x, *named.values()])
    same({"x": of_x, **of_parameters}, dict(zip(["x", *named], expected, strict=True)), "gradient")
    # Forward mode: <g, J v> = <J^T g, v>.
    v = example(family, seed=3)
    _, along = jvp(functools.partial(f, parameters), (x.detach(),), (v,))
    _, back = vjp(functools.partial(f, parameters), x.detach())
    close((g * along).sum(), (back(g)[0] * v).sum(), 1e-9, "derivative along a direction")


@each
@each_mode
def test_an_ensemble(family: Family, training: bool) -> None:
    """Each member keeps its own statistics."""
    members = [layer_of(family, training, seed) for seed in (1, 2)]
    parameters, buffers = stack_module_state(members)
    parameters = {name: t.detach() for name, t in parameters.items()}
    xs = torch.stack([example(family, seed) for seed in (0, 1)])

    def f(parameters: State, buffers: State, x: Tensor) -> Tensor:
        return functional_call(members[0], (parameters, buffers), (x,))

    ys = vmap(f, in_dims=(0 if parameters else None, 0 if buffers else None, 0))(
        parameters, buffers, xs
    )
    for i, member in enumerate(members):
        close(ys[i], member(xs[i]), 1e-9, f"output of member {i}")
        same({name: t[i] for name, t in buffers.items()}, buffers_of(member), f"member {i}")


@each
def test_gradients_of_each_image(family: Family) -> None:
    layer, x = layer_of(family, training=False), example(family)
    f, parameters = as_function(layer)
    found = vmap(grad(lambda p, x: f(p, x[None]).pow(3).sum()), in_dims=(None, 0))(parameters, x)
    for i in range(len(x)):
        loss = layer(x[i : i + 1]).pow(3).sum()
        named = dict(layer.named_parameters())
        if named:
            expected = torch.autograd.grad(loss, list(named.values()))
            same({n: t[i] for n, t in found.items()}, dict(zip(named, expected, strict=True)), "")


# ---------------------------------------------------------------------------------------------
# Checkpointing.


@each_moving
@pytest.mark.parametrize("reentrant", [False, True], ids=["hooks", "reentrant"])
def test_a_checkpointed_pass_moves_statistics_twice(family: Family, reentrant: bool) -> None:
    layer, twice = layer_of(family), layer_of(family)
    x = example(family).requires_grad_()
    checkpoint(lambda x: layer(2 * x).tanh(), x, use_reentrant=reentrant).sum().backward()
    for _ in range(2):
        twice(2 * example(family))
    same(buffers_of(layer), buffers_of(twice), "statistics")


@each
def test_the_way_to_move_them_once(family: Family) -> None:
    """Then gradients and statistics are those without checkpointing, to the bit."""
    once = from_page("statistics_once")
    found = []
    for checkpointed in (True, False):
        layer, x = layer_of(family), example(family).requires_grad_()
        part = nn.Sequential(layer, nn.Tanh())
        if checkpointed:
            y = checkpoint(part, x, use_reentrant=False, context_fn=functools.partial(once, part))
        else:
            y = part(x)
        gradients = torch.autograd.grad(y.pow(3).sum(), [x, *layer.parameters()])
        found.append([*gradients, *layer.buffers()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------------------------------------
# Averaged weights.


@each_moving
def test_statistics_of_averaged_weights(family: Family) -> None:
    """PyTorch's update_bn knows its own batch normalization and what derives from it; the page's
    function knows every layer, and does the same to those."""
    batches = [example(family, seed=i) for i in range(3)]
    layer, theirs = layer_of(family), layer_of(family)
    momentum = layer.momentum
    from_page("update_statistics")(batches, nn.Sequential(layer))
    assert layer.momentum == momentum
    assert layer.training
    assert layer.num_batches_tracked >= 3, "chunks of a batch count too"
    before = buffers_of(theirs)
    update_bn(batches, nn.Sequential(theirs))
    known = isinstance(theirs, nn.modules.batchnorm._BatchNorm)
    same(buffers_of(theirs), buffers_of(layer) if known else before, "statistics by update_bn")
    fresh = family.make(momentum=None).double()
    fresh.load_state_dict({**fresh.state_dict(), **dict(layer.named_parameters())})
    for batch in batches:
        fresh(batch)
    same(buffers_of(layer), buffers_of(fresh), "statistics")


@each
def test_averaged_weights(family: Family) -> None:
    net = network(family)
    averaged = AveragedModel(net)
    averaged.update_parameters(net)
    expected = copy.deepcopy(net)
    with torch.no_grad():
        for p, q in zip(net.parameters(), expected.parameters(), strict=True):
            p.add_(1)
            q.add_(0.5)
    averaged.update_parameters(net)
    x = draw(4, 3, 4, 3)
    close(averaged(x), expected(x), 1e-9, "output")


# ---------------------------------------------------------------------------------------------
# Several processes.


@each
@each_mode
def test_conversion_to_synchronized_statistics_exchanges_no_function(
    family: Family, training: bool
) -> None:
    """What becomes PyTorch's layer computes what it computed; all else stays as it is."""
    layer = layer_of(family, training)
    expected = copy.deepcopy(layer)
    (converted,) = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer)).train(training)
    assert type(converted) in (nn.SyncBatchNorm, type(layer))
    close(converted(example(family)), expected(example(family)), 1e-9, "output")
    same(buffers_of(converted), buffers_of(expected), "statistics")


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def network(family: Family) -> nn.Sequential:
    conv = nn.Conv2d(3, family.channels, 1).double()
    with torch.no_grad():
        for i, p in enumerate(conv.parameters()):
            p.copy_(draw(*p.shape, seed=20 + i))
    return nn.Sequential(conv, layer_of(family))


@pytest.mark.usefixtures("alone")
def test_replicas() -> None:
    """Every parameter takes part in each step, and buffers can be broadcast."""
    for family in FAMILIES.values():
        plain, inside = network(family), network(family)
        if isinstance(inside[1], nn.SyncBatchNorm):
            with pytest.raises(ValueError, match="only work with GPU modules"):
                DistributedDataParallel(inside)
            continue
        parallel = DistributedDataParallel(inside)
        for step in range(2):
            for one in (plain, parallel):
                one.zero_grad()
                one(draw(3, 3, 4, 4, seed=step)).pow(3).mean().backward()
        for a, b in zip(inside.parameters(), plain.parameters(), strict=True):
            close(a.grad, b.grad, 1e-9, f"gradient with {family.name}")
        same(buffers_of(inside), buffers_of(plain), family.name)


IMAGES = draw(4, 3, 4, 4, seed=7)


def gradients(net: nn.Module, x: Tensor) -> State:
    net(x).pow(3).mean().backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def _replicas() -> bytes:
    """Gradients and buffers of each family's network in this process, which has half of the images.

    Where the statistics are those of both, the name says how.
    """
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    x = IMAGES[2 * rank : 2 * rank + 2]
    found = {}
    for name, family in FAMILIES.items():
        inside = network(family)
        if isinstance(inside[1], nn.SyncBatchNorm):
            # Nothing of PyTorch wraps it on a CPU, so gradients are averaged here.
            gradients(inside, x)
            for p in inside.parameters():
                torch.distributed.all_reduce(p.grad)
                assert p.grad is not None
                p.grad /= 2
        else:
            gradients(DistributedDataParallel(inside), x)
        found[name] = inside
        if family.spec.layer is BatchNorm2d:
            together = network(family)
            with pooled_over(among_processes(x)):
                gradients(DistributedDataParallel(together), x)
            found[f"{name}, pooled"] = together
    torch.distributed.destroy_process_group()
    file = io.BytesIO()  # tensors themselves would go through memory that ends with the process
    states = {
        name: ({n: p.grad for n, p in one.named_parameters()}, buffers_of(one))
        for name, one in found.items()
    }
    torch.save(states, file)
    return file.getvalue()


def test_two_processes_in_data_parallel() -> None:
    """Gradients are the mean of those of both halves of the batch; where no statistic crosses
    images, or it crosses processes too, they are those of the whole batch in one process."""
    first, second = (torch.load(io.BytesIO(one)) for one in results(in_processes(2, _replicas)))
    both = [name for name in first if name.endswith(", pooled")]
    assert both == ["bn, pooled"]
    for name, (found, buffers) in first.items():
        family = FAMILIES[name.removesuffix(", pooled")]
        same(second[name][0], found, f"gradients of the other process with {name}")
        halves = [network(family) for _ in range(2)]
        parts = [gradients(net, x) for net, x in zip(halves, IMAGES.split(2), strict=True)]
        mean = {p: (parts[0][p] + parts[1][p]) / 2 for p in found}
        whole = network(family)
        of_all = gradients(whole, IMAGES)
        synchronized = name in ("sync_bn", *both)
        if synchronized or not any("N" in axes for axes in family.spec.axes):
            same(found, of_all, f"gradients with {name}")
        if synchronized:
            same(buffers, buffers_of(whole), f"statistics with {name}")
            assert any((mean[p] - of_all[p]).abs().max() > 1e-3 for p in mean), "a test of nothing"
        else:
            same(found, mean, f"gradients with {name}")
            same(buffers, buffers_of(halves[0]), f"statistics with {name}")


# ---------------------------------------------------------------------------------------------
# 16 bits.


@each_moving
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_statistics_in_16_bits(family: Family, dtype: torch.dtype) -> None:
    """The variance of the first batch does not fit float16, a tenth of it does."""
    layer, wide = family.make().to(dtype), family.make()
    for seed in range(2):
        x = ((100, 400)[seed == 0] * draw(4, family.channels, 4, 4, seed=seed)).to(dtype)
        layer(x)
        wide(x.float())
        for name, t in layer.named_buffers():
            assert bool(t.isfinite().all()), f"{name} after batch {seed}"
            error = (t.float() - wide.get_buffer(name)).abs().max().item()
            size = max(1.0, wide.get_buffer(name).abs().max().item())
            assert error <= 4 * torch.finfo(dtype).eps * size, f"{name} after batch {seed}"


# ---------------------------------------------------------------------------------------------
# Copies, files, and layers without memory.


def saved(thing: object, weights_only: bool) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@each
def test_copies_and_files(family: Family) -> None:
    layer = layer_of(family)
    layer(example(family))
    loaded = family.make().double()
    loaded.load_state_dict(saved(layer.state_dict(), True))
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        saved(layer, False),
        loaded,
    ):
        assert type(other) is type(layer)
        assert repr(other) == repr(layer)
        same(dict(other.state_dict()), dict(layer.state_dict()), "state")
        x = example(family, seed=2)
        assert torch.equal(other(x), copy.deepcopy(layer)(x))


@each
def test_made_without_memory_and_filled(family: Family) -> None:
    fresh = family.make()
    with torch.device("meta"):
        filled, assigned = family.make(), family.make()
    assert all(t.is_meta for t in (*filled.parameters(), *filled.buffers()))
    filled.to_empty(device="cpu")
    with torch.no_grad():
        for t in filled.state_dict().values():
            t.fill_(7)
    filled.reset_parameters()
    assigned.load_state_dict(fresh.state_dict(), assign=True)
    for layer in (filled, assigned):
        same(dict(layer.state_dict()), dict(fresh.state_dict()), "state")
        assert {n for n, p in layer.named_parameters() if p.requires_grad} == {
            n for n, p in fresh.named_parameters() if p.requires_grad
        }
        assert not any(t.is_meta for t in layer.buffers())
        x = example(family).float()
        close(layer.eval()(x), fresh.eval()(x), 1e-6, "output")


@pytest.fixture(autouse=True)
def _no_state_of_torch_func_left() -> Iterator[None]:
    yield
    assert not torch._C._are_functorch_transforms_active()
