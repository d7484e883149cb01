"""Layers in a run whose batches several processes divide: what synchronizes, and what cannot.

With synchronized statistics a run is to be what it is in one process. Layers of normlab are
(:mod:`normlab.norms.synchronized`), and PyTorch's batch norm is computed by ours. A layer that is
not ours is tried: what it does with its part of a batch must be what it does with the whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data import DataSet
from ..errors import InputError
from ..foreign import is_custom
from ..models import drawn_by, make_layer
from ..models.state import EXTRA
from ..norms import BatchNorm2d
from ..norms.methods.batch import BatchStatistics
from ..norms.synchronized import pooled_over
from ..runs import AS_IS, RunConfig
from .group import Group
from .layer_check import VALUES, LayerTraits
from .network import build, layer_at_a_site, shapes_at_sites

Net = TypeVar("Net", bound=nn.Module)
ALIKE = 1e-3
"""Largest difference that is rounding, as a share of the largest value."""
DOCS = "See docs/several-processes.md."


def divisible(model: Net, config: RunConfig) -> Net:
    """Let PyTorch's batch norm take the statistics of whole batches where the run says so; returns
    the model.

    ``torch.nn.SyncBatchNorm`` does that on GPUs alone. Here our layer does it in training, with the
    parameters and buffers of the one that is there, which stays what it is in evaluation.
    """
    if config.processes > 1 and config.statistics == "synchronized":
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                _train_by_ours(module)
    return model


def _train_by_ours(layer: nn.BatchNorm2d) -> None:
    ours = BatchNorm2d(
        layer.num_features,
        layer.eps,
        layer.momentum,
        layer.affine,
        track_running_stats=layer.track_running_stats,
    )
    ours._parameters, ours._buffers = layer._parameters, layer._buffers

    def forward(x: Tensor) -> Tensor:
        y: Tensor = ours(x) if layer.training else nn.BatchNorm2d.forward(layer, x)
        return y

    layer.forward = forward  # type: ignore[assignment, method-assign]


def check_division(
    config: RunConfig, data: DataSet, traits: LayerTraits, group: Group
) -> LayerTraits:
    """Try whether the processes of a group can divide the batches of this arm.

    Returns the traits, with what is to be known of the division.

    Raises:
        InputError: they cannot.
    """
    if not group.several:
        return traits
    if is_custom(config.norm):
        _check_state(config, traits)
        if config.statistics == "synchronized":
            _check_alike(config, data, group)
    layer = layer_at_a_site(config)
    if config.norm == AS_IS:
        layer = _check_batch_norms(config, data)
    return replace(traits, notes=(*traits.notes, *_notes(config, layer)))


def _check_batch_norms(config: RunConfig, data: DataSet) -> nn.Module:
    """A batch norm of a network that is left as it is, or the identity.

    Raises:
        InputError: one that could not be synchronized.
    """
    found: nn.Module = nn.Identity()
    for name, module in build(config, data).model.named_modules():
        if not isinstance(module, _BatchNorm) or isinstance(module, BatchStatistics):
            continue
        if type(module) is not nn.BatchNorm2d and config.statistics == "synchronized":
            raise InputError(
                f"Arm {config.norm}: {name} is {type(module).__name__}, whose statistics the "
                "processes would not share. Use --statistics per-process, or an arm whose layers "
                f"are of normlab, such as bn. {DOCS}"
            )
        found = module
    return found


def _notes(config: RunConfig, layer: nn.Module) -> tuple[str, ...]:
    if config.statistics != "synchronized" and not getattr(layer, "always_synchronized", False):
        return ()
    if type(layer) is nn.BatchNorm2d:
        return (
            "PyTorch's batch norm synchronizes on GPUs alone, as another layer. In training this "
            "run's was computed by the batch norm of normlab, with the same parameters.",
        )
    if config.kernels == "compiled" and isinstance(layer, BatchStatistics):
        return (
            "Compiled kernels do not synchronize: layers with statistics of the batch were "
            "computed by operations of PyTorch in training.",
        )
    return ()


def _check_state(config: RunConfig, traits: LayerTraits) -> None:
    """What a layer keeps besides parameters and buffers cannot be given to the other processes."""
    extra = any(EXTRA in name for name in layer_at_a_site(config).state_dict())
    if extra or not traits.resumable:
        raise InputError(
            f"Arm {config.norm}: the layer keeps state besides its parameters and buffers, which "
            f"processes cannot share. Make the run in one process, or use register_buffer. {DOCS}"
        )


def _check_alike(config: RunConfig, data: DataSet, group: Group) -> None:
    """Raises InputError if a part of a batch is not treated as within the whole."""
    rest = len(data.splits["train"]) % config.batch_size
    for width, (height, across) in shapes_at_sites(config, data).items():
        most = max(group.launch.size, VALUES // (width * height * across))
        # A last batch may leave a process without an image.
        for count in {min(config.batch_size, most), rest if 0 < rest < group.launch.size else 0}:
            if count:
                _try(config, (count, width, height, across), group)


def _try(config: RunConfig, shape: tuple[int, ...], group: Group) -> None:
    generator = torch.Generator().manual_seed(0)
    x, g = (
        torch.randn(shape, generator=generator)
        .to(config.device)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    own = group.launch.share(shape[0])
    with pooled_over(None):
        y, dx, state = _trained(config, x, g, 0)
    with pooled_over(group.divided(shape[0])):
        y_own, dx_own, state_own = _trained(config, x[own], g[own], group.launch.rank)
    pairs = [(y[own], y_own), (dx[own], dx_own)]
    for name, values in state.items():
        shared = state_own[name]
        pairs.append((values, group.total(shared) if name.startswith("gradient ") else shared))
    with group.together():
        if not all(_alike(one, two) for one, two in pairs):
            raise InputError(
                f"Arm {config.norm}: what its layer makes of an image depends on the other images "
                "of the batch, or on what it draws, so processes that divide a batch would make "
                "another run. With --statistics per-process each of them has a batch of its own. "
                f"{DOCS}"
            )


def _trained(
    config: RunConfig, x: Tensor, g: Tensor, rank: int
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Output, gradient of the input, and the gradients of parameters and the buffers by name."""
    width = x.shape[1]
    with drawn_by(0, "tried", width):
        layer = make_layer(config.norm, width)
    layer.to(device=config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    divisible(layer, config)
    x = x.detach().requires_grad_()
    with drawn_by(0, "divided", width, *([rank] if rank else [])), torch.enable_grad():
        y = layer.train()(x)
        y.backward(g)
    state = {
        f"gradient {name}": torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in layer.named_parameters()
    }
    state |= {f"buffer {name}": buffer for name, buffer in layer.named_buffers()}
    grad = torch.zeros_like(x) if x.grad is None else x.grad
    return y.detach(), grad, state


def _alike(one: Tensor, two: Tensor) -> bool:
    if not one.numel():
        return True
    one, two = one.double(), two.double()
    return bool(((one - two).abs().max() <= ALIKE * one.abs().max()).item())
