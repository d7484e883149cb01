"""Training and evaluation mode of a network's modules, which may differ within it on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Every module has its own mode again when the context ends."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards every module has its own mode again.

    >>> network = nn.Sequential(nn.Dropout().train(), nn.Dropout().eval())
    >>> with in_evaluation(network):
    ...     [module.training for module in network]
    [False, False]
    >>> [module.training for module in network]
    [True, False]
    """
    with modes_kept(model):
        # Not eval(), which some modules override to do more.
        for module in model.modules():
            module.training = False
        yield
