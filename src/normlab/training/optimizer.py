"""The optimizer, with what each layer needs of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..models import needs_of, sites
from ..runs import RunConfig
from .eager import SGD, AdamW

LEAST_NORM = 1e-3
"""What the norm of a unit counts as at least, so that a unit of zeros can learn."""


class LayerAwareOptimizer:
    """SGD or AdamW that honours what layers declare in ``optimizer_needs``.

    Weight decay spares the parameters of normalization sites, every bias, and whatever else has
    one dimension or none (gains, slopes, thresholds), unless the configuration says ``decay_all``;
    a parameter whose layer asks for no decay never gets any. A parameter's learning rate is the
    schedule's times its ``lr_scale``, and times ``head_lr`` / ``lr`` for those of the classifier,
    whose path is given; after each step the parameters with a ``clamp`` are put back
    into it. Gradients of parameters with a ``unit_clip`` are shortened by unit first; ``clip_norm``
    then limits the norm of all gradients as they are after that.
    """

    def __init__(self, model: nn.Module, config: RunConfig, classifier: str = "") -> None:
        self.clip_norm = config.clip_norm
        self.parameters = list(model.parameters())
        needs = needs_of(model)
        at_sites = {
            id(p) for site in sites(model) for p in model.get_submodule(site.name).parameters()
        }
        head = self._head(model, config, classifier)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        self.clamps: list[tuple[nn.Parameter, tuple[float, float]]] = []
        self.unit_clips: list[tuple[nn.Parameter, float]] = []
        for parameter in self.parameters:
            need = needs[id(parameter)]
            spared = id(parameter) in at_sites or parameter.dim() <= 1
            decays = need.weight_decay and (config.decay_all or not spared)
            decay = config.weight_decay if decays else 0.0
            scale = need.lr_scale * head.get(id(parameter), 1.0)
            groups.setdefault((scale, decay), []).append(parameter)
            if need.clamp is not None:
                self.clamps.append((parameter, need.clamp))
            if need.unit_clip is not None:
                self.unit_clips.append((parameter, need.unit_clip))
        self._scales = [scale for scale, _ in groups]
        described = [
            {"params": members, "weight_decay": decay, "lr": config.lr * scale}
            for (scale, decay), members in groups.items()
        ]
        self.inner: torch.optim.Optimizer
        if config.optimizer == "sgd":
            self.inner = SGD(
                described, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov
            )
        else:
            self.inner = AdamW(described, lr=config.lr, betas=(config.momentum, 0.999))

    def _head(self, model: nn.Module, config: RunConfig, classifier: str) -> dict[int, float]:
        """Factor on the learning rate of the classifier's parameters, by their ids."""
        if config.head_lr is None:
            return {}
        factor = config.head_lr / config.lr
        return {id(p): factor for p in model.get_submodule(classifier).parameters()}

    def set_lr(self, lr: float) -> None:
        """Set the schedule's learning rate, before each group's own scale."""
        for group, scale in zip(self.inner.param_groups, self._scales, strict=True):
            group["lr"] = lr * scale

    def step(self) -> None:
        """Clip, step, clamp, and clear the gradients."""
        for parameter, share in self.unit_clips:
            if parameter.grad is not None:
                clip_by_unit(parameter, share)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter, (low, high) in self.clamps:
                parameter.clamp_(low, high)

    def state(self) -> dict[str, torch.Tensor]:
        """The optimizer's memory, flat: ``index.key`` to tensor."""
        return {
            f"{index}.{name}": torch.as_tensor(value)
            for index, parameter in enumerate(self.parameters)
            for name, value in self.inner.state.get(parameter, {}).items()
            if value is not None
        }

    def fits(self, state: Mapping[str, torch.Tensor]) -> bool:
        """Whether tensors are such a memory: their names, shapes and types."""
        adam = isinstance(self.inner, torch.optim.AdamW)
        keys = {"exp_avg", "exp_avg_sq", "step"} if adam else {"momentum_buffer"}
        for name, value in state.items():
            index, _, key = name.partition(".")
            known = index.isascii() and index.isdigit() and len(index) < 9 and key in keys
            if not known or int(index) >= len(self.parameters):
                return False
            parameter = self.parameters[int(index)]
            if key == "step":
                if value.shape != () or value.dtype != torch.float32:
                    return False
            elif value.shape != parameter.shape or value.dtype != parameter.dtype:
                return False
        return True

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """The reverse of :meth:`state`."""
        for name, value in state.items():
            index, key = name.split(".", 1)
            parameter = self.parameters[int(index)]
            # AdamW keeps its step count on the CPU, whatever the device.
            target = value if key == "step" else value.to(parameter.device)
            self.inner.state[parameter][key] = target.clone()


@torch.no_grad()
def clip_by_unit(parameter: nn.Parameter, share: float) -> None:
    """Shorten the gradient of each unit to at most this share of the unit's norm, which counts as
    at least 0.001. Directions stay.

    A unit is a row of a parameter of two or more dimensions; any other parameter is one unit.

    >>> weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> weight.grad = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> clip_by_unit(weight, 0.1)
    >>> [round(value, 6) for value in weight.grad.flatten().tolist()]
    [0.0, 0.5, 0.0001, 0.0]

    Source: Brock, De, Smith & Simonyan 2021, "High-Performance Large-Scale Image Recognition
    Without Normalization" (adaptive gradient clipping).
    """
    assert parameter.grad is not None
    rows = parameter.flatten(1) if parameter.dim() > 1 else parameter.reshape(1, -1)
    gradients = parameter.grad.reshape(rows.shape)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    most = share * norms.clamp_min(LEAST_NORM)
    factors = torch.where(lengths > most, most / lengths, torch.ones_like(lengths))
    parameter.grad.copy_((gradients * factors).view_as(parameter))
