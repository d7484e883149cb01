"""Our layers in other people's loops: what libraries do with a layer of torch.nn, done to ours and
to its twin, has the same outcome.

Where the outcome differs on purpose, the layer's docstring says so and a test here holds it.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jvp, stack_module_state, vmap
from torch.nn.utils import fusion, parametrize
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

from normlab.norms import (
    CATALOG,
    BatchInstanceNorm2d,
    BatchNorm2d,
    GroupNorm2d,
    InstanceNorm2d,
    LayerNormCHW,
    NoNorm2d,
    SyncBatchNorm2d,
    make_norm,
)

from .checks import close
from .families import FAMILIES, MODES, Family, draw, same_state, scramble

pytestmark = [
    pytest.mark.usefixtures("each_way"),
    # PyTorch's own modules use what it deprecates, when forward mode or captum is first imported.
    pytest.mark.filterwarnings("ignore:.torch.jit.*:DeprecationWarning"),
]

# What is made of PyTorch alone with the same state: the twin, or the reference.
LAYERS = {
    name: family
    for name, family in FAMILIES.items()
    if family.standardizes and family.spec.name in CATALOG
}
TWINS = {name: family for name, family in LAYERS.items() if family.spec.twin is not None}
TRACKING = {name: family for name, family in LAYERS.items() if family.has_running_statistics}


def each(families: dict[str, Family]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("family", families.values(), ids=families)


each_mode = pytest.mark.parametrize("training", MODES.values(), ids=MODES)


def pair(family: Family, training: bool = True) -> tuple[nn.Module, nn.Module]:
    """Ours and PyTorch's with the same state, in float64."""
    ours = scramble(family.make()).double().train(training)
    return ours, same_state(family.counterpart().double(), ours)


def example(family: Family, seed: int = 0, images: int = 3) -> Tensor:
    return draw(images, family.channels, 4, 3, seed=seed) * (1 + seed) + seed


def outcome(f: Callable[[nn.Module], Any], layer: nn.Module) -> Any:
    """What comes back, then the buffers; or the type of the error."""
    try:
        found = f(layer)
    except (RuntimeError, ValueError) as error:
        return type(error)
    return found, dict(layer.named_buffers())


def same_outcome(family: Family, f: Callable[[nn.Module], Any], training: bool = True) -> Any:
    ours, theirs = (outcome(f, layer) for layer in pair(family, training))
    agree(ours, theirs)
    return ours


def agree(ours: Any, theirs: Any, where: str = "outcome") -> None:
    if isinstance(theirs, Tensor):
        assert isinstance(ours, Tensor), f"{where}: {ours} where PyTorch has a tensor"
        assert ours.shape == theirs.shape, where
        if theirs.numel():
            close(ours, theirs, 1e-9, where)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            agree(ours[key], theirs[key], f"{where}, {key}")
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            agree(a, b, f"{where}, part {i}")
    else:
        assert ours == theirs, where


# ---------------------------------------------------------------------------------------------
# What a layer is, and what can be asked of it and set.

PYTORCH = {
    "bn": nn.BatchNorm2d,
    "in": nn.InstanceNorm2d,
    "ln": nn.GroupNorm,
    "gn": nn.GroupNorm,
    "gn_two_groups": nn.GroupNorm,
    "sync_bn": nn.SyncBatchNorm,
}


@each(TWINS)
def test_tools_that_look_for_a_type_find_it(family: Family) -> None:
    layer = family.make()
    assert isinstance(layer, PYTORCH[family.name])
    assert type(layer.twin()) is PYTORCH[family.name]
    assert type(family.counterpart()) is PYTORCH[family.name]


def test_what_torch_does_not_have_is_of_none_of_its_types() -> None:
    """It would be exchanged for another function, without a word."""
    batch_norms = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d, nn.GroupNorm)
    for layer in (BatchInstanceNorm2d(4), NoNorm2d(4)):
        assert not isinstance(layer, batch_norms)


@each(TWINS)
def test_attributes_of_the_twin_are_there_and_can_be_set(family: Family) -> None:
    layer, twin = family.make(), family.counterpart()
    names = [n for n in vars(twin) if not n.startswith("_") and n != "training"]
    assert "eps" in names
    assert "affine" in names
    for name in [*names, *twin._buffers, *twin._parameters]:
        agree(getattr(layer, name), getattr(twin, name), name)
    for name in names:
        value = getattr(layer, name)
        if (family.name, name) == ("ln", "num_groups"):
            with pytest.raises(AttributeError):
                layer.num_groups = 2
            continue
        setattr(layer, name, value)
        assert getattr(layer, name) == value
    for call in ("reset_parameters", "reset_running_stats"):
        assert hasattr(layer, call) or not hasattr(twin, call), call


def test_channels_and_groups_have_two_names_for_one_value() -> None:
    """A tool that prunes channels writes torch.nn's names."""
    batch, group = BatchNorm2d(4), GroupNorm2d(8, groups=2)
    batch.num_features = 3
    assert batch.channels == 3
    group.num_channels, group.num_groups = 4, 4
    x = draw(2, 4, 3, 3).float()
    group.weight = group.bias = None
    close(group(x), nn.GroupNorm(4, 4, affine=False)(x), 1e-5, "output with groups set later")


@each(LAYERS)
@each_mode
def test_settings_changed_later_are_honoured(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Tensor:
        layer.eps = 0.5
        if family.has_running_statistics:
            layer.momentum = None
        layer(example(family, seed=1))
        return layer(example(family))

    same_outcome(family, f, training)


@each(TRACKING)
@each_mode
def test_tracking_switched_off_later(family: Family, training: bool) -> None:
    """Training then leaves the buffers alone; evaluation still uses them."""

    def f(layer: nn.Module) -> Tensor:
        layer.track_running_stats = False
        return layer(example(family))

    _, buffers = same_outcome(family, f, training)
    assert buffers["num_batches_tracked"] == 0


@each(TRACKING)
@each_mode
@pytest.mark.parametrize("names", [("running_mean", "running_var"), ("running_mean",)], ids=str)
def test_running_statistics_removed(family: Family, training: bool, names: tuple[str, ...]) -> None:
    """Without both, evaluation is by the batch; without one, an error (of another type here)."""

    def f(layer: nn.Module) -> Tensor:
        for name in names:
            setattr(layer, name, None)
        return layer(example(family))

    ours, theirs = (outcome(f, layer) for layer in pair(family, training))
    if len(names) == 1:
        assert {ours, theirs} <= {ValueError, RuntimeError}
    else:
        agree(ours, theirs)


@each(TRACKING)
def test_made_without_running_statistics(family: Family) -> None:
    layer = family.make(track_running_stats=False).double()
    assert "track_running_stats=False" in repr(layer)
    assert not list(layer.buffers())
    x = example(family)
    agree(layer.eval()(x), layer.train()(x))
    with pytest.raises(ValueError, match="empty batch"):
        layer.eval()(x[:0])


def test_instance_norm_cannot_be_asked_to_track() -> None:
    layer, twin = InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)
    for made in (layer, twin):
        made.track_running_stats = True
        with pytest.raises((ValueError, RuntimeError)):
            made.eval()(torch.ones(2, 4, 3, 3))


@each(LAYERS)
def test_reset_puts_everything_back(family: Family) -> None:
    layer = scramble(family.make())
    layer(example(family).float())
    layer.reset_parameters()
    agree(layer.state_dict(), dict(family.make().state_dict()))
    if family.has_running_statistics:
        layer(example(family).float())
        layer.reset_running_stats()
        agree(dict(layer.named_buffers()), dict(family.make().named_buffers()))


@each(LAYERS)
def test_made_on_another_device_and_type(family: Family) -> None:
    """The ways to make a large network without its memory, then to fill it."""
    fresh = family.make().state_dict()
    layer = nn.utils.skip_init(family.spec.layer, family.channels, **family.options)
    layer.reset_parameters()
    agree(layer.state_dict(), fresh)
    layer = family.make(device="meta")
    assert all(t.is_meta for t in (*layer.parameters(), *layer.buffers()))
    layer.to_empty(device="cpu").reset_parameters()
    agree(layer.state_dict(), fresh)
    for name, t in family.make(dtype=torch.float64).state_dict().items():
        assert t.dtype == (torch.long if name == "num_batches_tracked" else torch.float64)


@each(TRACKING)
@pytest.mark.parametrize("version", [None, 1, 2])
def test_old_checkpoints_load(family: Family, version: int | None) -> None:
    """Before version 2 no batches were counted; a file of plain tensors has no version at all."""

    def f(layer: nn.Module) -> Any:
        state = copy.copy(layer.state_dict())
        del state["num_batches_tracked"]
        state._metadata = {} if version is None else {"": {"version": version}}
        layer.running_mean.zero_()
        layer.load_state_dict(state, strict=True)
        return layer.running_mean

    found = same_outcome(family, f)
    assert (found is RuntimeError) == (version == 2)


@each(LAYERS)
def test_copies_and_pickles(family: Family) -> None:
    layer, _ = pair(family)
    layer(example(family))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(other(example(family, seed=2)), layer(example(family, seed=2)))


# ---------------------------------------------------------------------------------------------
# Running statistics in 16 bits.


@each(TRACKING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("momentum", [0.1, None], ids=str)
@pytest.mark.parametrize("size", [1.0, 600.0, 30_000.0])
def test_running_statistics_in_16_bits(
    family: Family, dtype: torch.dtype, momentum: float | None, size: float
) -> None:
    """600: the batch's variance does not fit float16, a tenth of it does. 30000: neither does."""
    ours, theirs = family.make().to(dtype), family.counterpart().to(dtype)
    ours.momentum = theirs.momentum = momentum
    for seed in range(6):
        scale = size if seed < 3 else 1.0  # then it calms down again
        x = (scale * draw(4, family.channels, 4, 4, seed=seed)).clamp(-6e4, 6e4).to(dtype)
        ours(x)
        theirs(x)
        for name in ("running_mean", "running_var"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert torch.equal(a.isfinite(), b.isfinite()), f"{name} at step {seed}: {a}, {b}"
            assert not a.isnan().any(), f"{name} at step {seed}"
            torch.testing.assert_close(a, b, rtol=4 * torch.finfo(dtype).eps, atol=0.02 * scale)


def test_more_batches_than_float16_can_count() -> None:
    layer = BatchNorm2d(2, momentum=None).half()
    layer.num_batches_tracked.fill_(99_999)
    layer.running_mean.fill_(1.0)
    layer(torch.full((2, 2, 2, 2), 1000.0).half())
    assert layer.running_mean.tolist() == pytest.approx([1.01, 1.01], abs=2e-3)


# ---------------------------------------------------------------------------------------------
# Several passes in one loss.


@each(LAYERS)
@pytest.mark.parametrize(
    "modes", [(False, True), (True, False), (True, True), (False, True, False)], ids=str
)
def test_gradient_of_several_passes(family: Family, modes: tuple[bool, ...]) -> None:
    """It is the sum of the gradients that each pass has by itself.

    PyTorch's batch norm differentiates an evaluation pass with the statistics that a later
    training pass has moved, and says nothing; ours uses those that the pass used.
    """
    together, apart = pair(family)[0], pair(family)[0]
    inputs = [example(family, seed=i).requires_grad_() for i in range(len(modes))]

    def loss(layer: nn.Module, i: int) -> Tensor:
        return layer.train(modes[i])(inputs[i]).pow(3).mean()

    def gradients(layer: nn.Module, loss: Any) -> tuple[Tensor, ...]:
        wanted = [*layer.parameters(), *inputs]
        return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)

    found = gradients(together, sum(loss(together, i) for i in range(len(modes))))
    alone = [gradients(apart, loss(apart, i)) for i in range(len(modes))]
    for ours, *parts in zip(found, *alone, strict=True):
        close(ours, sum(parts), 1e-9, "gradient")


def test_second_derivative_of_an_evaluation_before_training() -> None:
    """The statistics of the second derivative are those of the pass, too."""
    found = []
    for train_between in (True, False):
        layer = scramble(BatchNorm2d(4)).double().eval()
        x = draw(3, 4, 3, 3).requires_grad_()
        (d,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        if train_between:
            layer.train()(draw(3, 4, 3, 3, seed=5) * 9)
        found.append(torch.autograd.grad(d.square().sum(), x)[0])
    assert torch.equal(*found)


@each(TRACKING)
def test_buffers_written_between_forward_and_backward(family: Family) -> None:
    """As replicas do that broadcast their buffers before each pass."""
    found = []
    for written in (True, False):
        layer, _ = pair(family, training=False)
        x = example(family).requires_grad_()
        loss = layer(x).pow(3).sum()
        if written:
            with torch.no_grad():
                layer.running_mean.add_(1)
                layer.running_var.mul_(2)
        found.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@each(LAYERS)
@pytest.mark.parametrize("reentrant", [False, True], ids=["hooks", "reentrant"])
def test_gradient_checkpointing(family: Family, reentrant: bool) -> None:
    """The pass that is made again moves the running statistics again, as with PyTorch's."""

    def f(layer: nn.Module) -> Any:
        x = example(family).requires_grad_()
        y = checkpoint(lambda x: layer(x * 2).tanh(), x, use_reentrant=reentrant)
        y.square().sum().backward()
        return x.grad, [p.grad for p in layer.parameters()]

    same_outcome(family, f)


# ---------------------------------------------------------------------------------------------
# torch.func, forward mode, batched gradients.


def as_function(layer: nn.Module) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def f(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,)).pow(3).mean()

    return f, parameters


@each(LAYERS)
@each_mode
def test_func_grad(family: Family, training: bool) -> None:
    """In training with tracking both refuse: a transform may not change what it has captured."""

    def f(layer: nn.Module) -> Any:
        loss, parameters = as_function(layer)
        return grad(loss, argnums=(0, 1))(parameters, example(family))

    found = same_outcome(family, f, training)
    assert (found is RuntimeError) == (training and family.has_running_statistics)


@each(LAYERS)
@each_mode
def test_func_per_sample_gradients(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Any:
        loss, parameters = as_function(layer)
        by_image = vmap(grad(loss), in_dims=(None, 0))
        return by_image(parameters, example(family).unsqueeze(1))

    same_outcome(family, f, training)


@each(LAYERS)
@each_mode
def test_func_ensemble(family: Family, training: bool) -> None:
    """Several networks of one shape in one call; each keeps its own running statistics."""

    def f(layer: nn.Module) -> Any:
        members = [copy.deepcopy(layer) for _ in range(2)]
        with torch.no_grad():
            for member in members[1:]:
                for t in (*member.parameters(), *member.buffers()):
                    t.mul_(2)
        parameters, buffers = stack_module_state(members)
        x = example(family)

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(layer, (parameters, buffers), (x,))

        return vmap(one)(parameters, buffers), buffers

    assert isinstance(same_outcome(family, f, training), tuple)


@each(LAYERS)
@each_mode
def test_func_jvp_and_hessian(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Any:
        x = example(family, images=2)[:, :, :2, :2]
        tangent = draw(*x.shape, seed=3)
        return jvp(layer, (x,), (tangent,)), hessian(lambda x: layer(x).pow(3).mean())(x)

    same_outcome(family, f, training)


@each(LAYERS)
def test_func_after_tracking_was_switched_off(family: Family) -> None:
    """PyTorch's recipe for batch norm in a transform, which goes by the type."""

    def f(layer: nn.Module) -> Any:
        net = nn.Sequential(layer)
        torch.func.replace_all_batch_norm_modules_(net)
        return vmap(net)(torch.stack([example(family, seed=i) for i in range(2)]))

    if family.spec.twin is not None:
        assert same_outcome(family, f) is not RuntimeError
    else:
        untracked = {"track_running_stats": False} if family.has_running_statistics else {}
        layer = family.make(**untracked)
        assert outcome(f, layer.double()) is not RuntimeError


@each(LAYERS)
@each_mode
def test_forward_mode(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Tensor:
        with forward_ad.dual_level():
            x = forward_ad.make_dual(example(family), example(family, seed=2))
            return forward_ad.unpack_dual(layer(x)).tangent

    same_outcome(family, f, training)

    ours, theirs = pair(family, training)
    found = []
    for layer in (ours, theirs):
        with forward_ad.dual_level():
            state = {n: p.detach() for n, p in layer.named_parameters()}
            state["weight"] = forward_ad.make_dual(state["weight"], state["weight"] + 1)
            y = functional_call(layer, state, (example(family),))
            found.append(forward_ad.unpack_dual(y).tangent)
    agree(*found)


@each(LAYERS)
@pytest.mark.parametrize("vectorize", [False, True], ids=["one by one", "batched"])
def test_hessian_by_autograd(family: Family, vectorize: bool) -> None:
    """Batched gradients enter backward as one; PyTorch's group norm fails there, ours does not."""

    def f(layer: nn.Module, vectorize: bool) -> Tensor:
        x = example(family, images=2)[:, :, :2, :2].contiguous()
        return torch.autograd.functional.hessian(
            lambda x: layer(x).pow(3).mean(), x, vectorize=vectorize
        )

    ours, theirs = pair(family)
    agree(f(ours, vectorize), f(theirs, False))


@each(LAYERS)
@each_mode
def test_batched_gradients(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Any:
        x = example(family).requires_grad_()
        y = layer(x)
        g = torch.stack([draw(*y.shape, seed=i) for i in range(3)])
        return torch.autograd.grad(y, [x, *layer.parameters()], g, is_grads_batched=True)

    same_outcome(family, f, training)


# ---------------------------------------------------------------------------------------------
# Tools that go through a network.


def network(family: Family, layer: nn.Module) -> nn.Module:
    conv = nn.Conv2d(3, family.channels, 3, padding=1).double()
    with torch.no_grad():
        for i, t in enumerate(conv.parameters()):
            t.copy_(0.2 * draw(*t.shape, seed=40 + i))
    return nn.Sequential(conv, layer, nn.ReLU())


def images(seed: int = 0) -> Tensor:
    return draw(4, 3, 5, 5, seed=seed) + seed


@each(TWINS)
def test_update_bn(family: Family) -> None:
    def f(layer: nn.Module) -> Any:
        averaged = AveragedModel(network(family, layer))
        averaged.train()
        update_bn([images(i) for i in range(4)], averaged)
        inner = averaged.module[1]
        if family.has_running_statistics:
            assert inner.num_batches_tracked == 4
            assert inner.momentum == 0.1, "put back afterwards"
        return averaged.eval()(images(9)), dict(inner.named_buffers())

    same_outcome(family, f)


def test_statistics_of_bin_are_estimated_anew_as_its_docstring_says() -> None:
    layer = BatchInstanceNorm2d(3).double()
    plain = BatchNorm2d(3).double()
    layer(images(7) * 5)
    update_bn([images(i) for i in range(4)], nn.Sequential(plain))
    before = layer.running_mean.clone()
    update_bn([images(i) for i in range(4)], nn.Sequential(layer))
    assert torch.equal(layer.running_mean, before), "passed over"
    layer.reset_running_stats()
    layer.momentum = None
    layer.train()
    for i in range(4):
        layer(images(i))
    agree(dict(layer.named_buffers()), dict(plain.named_buffers()))


@each(LAYERS)
@each_mode
def test_convert_sync_batchnorm(family: Family, training: bool) -> None:
    """Batch norm becomes PyTorch's synchronized one, and computes the same; all else stays."""
    layer, _ = pair(family, training)
    expected = copy.deepcopy(layer)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer)).train(training)
    assert (type(converted[0]) is nn.SyncBatchNorm) == (family.name in ("bn", "sync_bn"))
    assert type(converted[0]) in (nn.SyncBatchNorm, type(layer))
    agree(converted(example(family)), expected(example(family)))
    agree(converted[0].state_dict(), expected.state_dict())


@each(TRACKING)
def test_fusing_with_the_convolution_before(family: Family) -> None:
    """By the exact type, and PyTorch says so; the twin fuses, and bin has none."""
    layer, _ = pair(family, training=False)
    net = network(family, layer).eval()
    fuse = torch.ao.quantization.fuse_modules
    with pytest.raises((NotImplementedError, AssertionError), match="did not find fuser method"):
        fuse(net, [["0", "1"]])
    if family.spec.twin is None:
        with pytest.raises(NotImplementedError, match="no layer that computes"):
            layer.twin()
        return
    if type(layer.twin()) is nn.BatchNorm2d:
        fused = fuse(network(family, layer.twin()).eval(), [["0", "1"]])
        assert isinstance(fused[1], nn.Identity)
        agree(fused(images()), net(images()))
    fused = nn.Sequential(fusion.fuse_conv_bn_eval(net[0], layer), net[2])
    agree(fused(images()), net(images()))


@each(FAMILIES)
def test_symbolic_trace(family: Family) -> None:
    """One node, whose mode can be changed later, as for layers of torch.nn."""
    layer, _ = pair(family)
    net = network(family, layer)
    eager = copy.deepcopy(net)
    traced = torch.fx.symbolic_trace(net)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1", "2"]
    for training in (True, False):
        agree(traced.train(training)(images()), eager.train(training)(images()))
    agree(dict(traced.named_buffers()), dict(eager.named_buffers()))
    with pytest.raises(torch.fx.proxy.TraceError, match="Trace the network"):
        torch.fx.symbolic_trace(layer)


@each(FAMILIES)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks on the shape
def test_torchscript(family: Family) -> None:
    """Tracing records plain operations, which can be saved. Scripting is refused with advice that
    works: made to work by PyTorch's hook, it would exchange the layer in the network itself."""
    layer, _ = pair(family, training=False)
    x = example(family)
    made = [torch.jit.trace(layer, (x,), check_trace=False)]
    network = nn.Sequential(nn.Identity(), layer)
    with pytest.raises(NotImplementedError, match=r"torch.jit.trace, or .* twin\(\)"):
        torch.jit.script(network)
    assert network[1] is layer
    # PyTorch's synchronized layer cannot be compiled either.
    if family.spec.twin not in (None, nn.SyncBatchNorm):
        made.append(torch.jit.script(nn.Sequential(layer.twin())))
    for program in made:
        file = io.BytesIO()
        torch.jit.save(program, file)
        file.seek(0)
        agree(torch.jit.load(file)(example(family, seed=4)), layer(example(family, seed=4)))


@each(TWINS)
@each_mode
def test_twin_shares_everything(family: Family, training: bool) -> None:
    layer, _ = pair(family, training)
    twin = layer.twin()
    assert twin.training is training
    for name, t in layer.state_dict(keep_vars=True).items():
        assert twin.state_dict(keep_vars=True)[name] is t
    again = copy.deepcopy(layer)
    agree(twin(example(family)), again(example(family)))
    bare = family.make(affine=False, eps=0.25)
    assert bare.twin().weight is None
    assert bare.twin().eps == 0.25


def test_layer_wise_relevance_propagation() -> None:
    """captum knows layers by their exact type, and says so; a rule or the twin is the way."""
    attribution = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    family = FAMILIES["bn"]
    layer, twin = pair(family, training=False)

    def relevance(layer: nn.Module) -> Tensor:
        net = nn.Sequential(network(family, layer), nn.AdaptiveAvgPool2d(1)).eval()
        return attribution.LRP(net).attribute(images().requires_grad_(), target=(0, 0, 0)).detach()

    with pytest.raises(TypeError, match="has no rule defined"):
        relevance(layer)
    expected = relevance(twin)
    agree(relevance(layer.twin()), expected)
    layer.rule = rules.EpsilonRule()
    agree(relevance(layer), expected)


@each(LAYERS)
def test_hooks(family: Family) -> None:
    def f(layer: nn.Module) -> Any:
        seen: list[Any] = []
        layer.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
        layer.register_forward_hook(lambda m, x, y: seen.append(y))
        layer.register_full_backward_hook(lambda m, gx, gy: seen.extend([gx[0], gy[0]]))
        x = example(family).requires_grad_()
        layer(x).pow(3).sum().backward()
        return seen, x.grad

    assert len(same_outcome(family, f)[0][0]) == 4


class _Doubled(nn.Module):
    def forward(self, t: Tensor) -> Tensor:
        return 2 * t


@each(LAYERS)
def test_parametrized_weight_and_frozen_parts(family: Family) -> None:
    def f(layer: nn.Module) -> Any:
        layer.bias.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", _Doubled())
        x = example(family).requires_grad_()
        layer(x).pow(3).sum().backward()
        return x.grad, layer.bias.grad, layer.parametrizations.weight.original.grad

    found = same_outcome(family, f)
    assert found[0][1] is None


@each(LAYERS)
@each_mode
def test_inference_mode(family: Family, training: bool) -> None:
    def f(layer: nn.Module) -> Any:
        with torch.inference_mode():
            y = layer(example(family))
        assert y.is_inference()
        return y.clone()

    same_outcome(family, f, training)


# ---------------------------------------------------------------------------------------------
# Batches at the edge.

EDGES = {"one image": (1, 4, 4), "one value": (1, 1, 1), "nothing": (0, 4, 4), "pixel": (3, 1, 1)}
REFUSED_HERE_ALONE = {
    # In torch.nn the output is the bias, or the batch is counted.
    ("bn", "nothing", True),
    ("sync_bn", "nothing", True),
    ("ghost_bn", "nothing", True),
    ("bin", "nothing", True),
    ("bin", "pixel", True),
    ("bin", "pixel", False),
}


@each(LAYERS)
@each_mode
@pytest.mark.parametrize("edge", EDGES)
def test_batches_at_the_edge(family: Family, training: bool, edge: str) -> None:
    images, height, width = EDGES[edge]
    x = draw(images, family.channels, height, width)
    layer, twin = pair(family, training)
    ours = outcome(lambda m: m(x), layer)
    if (family.name, edge) in {("in", "nothing"), ("bin", "nothing")}:
        if isinstance(ours, tuple):  # PyTorch's instance norm with a weight fails by accident
            assert ours[0].shape == x.shape
        else:
            assert (family.name, edge, training) in REFUSED_HERE_ALONE
        return
    theirs = outcome(lambda m: m(x), twin)
    if (family.name, edge, training) in REFUSED_HERE_ALONE:
        assert ours is ValueError
    else:
        agree(ours, theirs)


def test_one_value_per_group_is_refused_here_alone() -> None:
    x = torch.ones(3, 4, 1, 1)
    assert nn.GroupNorm(4, 4)(x).shape == x.shape
    with pytest.raises(ValueError, match="more than one value per group"):
        make_norm("gn:groups=4", 4)(x)


@pytest.fixture(autouse=True)
def _no_state_of_torch_func_left() -> Iterator[None]:
    yield
    assert not torch._C._are_functorch_transforms_active()


def test_the_layers_here_are_all_that_have_a_twin() -> None:
    layers = {type(family.make()) for family in TWINS.values()}
    assert layers == {
        BatchNorm2d, InstanceNorm2d, GroupNorm2d, LayerNormCHW, SyncBatchNorm2d,
    }  # fmt: skip
