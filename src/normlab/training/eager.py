"""PyTorch's optimizers without its compiler.

``torch.optim`` wraps methods that the compiler must not look into, and the first call of such a
wrapper imports ``torch._dynamo`` with 800 other modules. Every process would spend as long on that
as on importing torch itself. Nothing here compiles an optimizer, so these classes call what is
wrapped. They compute what PyTorch's compute, to the bit, and hooks of steps are called as there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


def _plain(method: Callable[..., Any]) -> Any:
    """What a method wraps; the method itself where a version of torch does not wrap it."""
    return inspect.unwrap(method)


def _step(method: Callable[..., Any]) -> Any:
    """A step without its wrappers, one of which turns gradients off."""
    plain = _plain(method)

    def step(self: torch.optim.Optimizer, closure: Callable[[], float] | None = None) -> Any:
        with torch.no_grad():
            return plain(self, closure)

    return step


class _Eager(torch.optim.Optimizer):
    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)


class SGD(_Eager, torch.optim.SGD):
    """:class:`torch.optim.SGD`."""

    step = _step(torch.optim.SGD.step)


class AdamW(_Eager, torch.optim.AdamW):
    """:class:`torch.optim.AdamW`."""

    step = _step(torch.optim.AdamW.step)
