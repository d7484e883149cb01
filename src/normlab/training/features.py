"""Percentiles of the penultimate features, for runs that record them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..runs import FEATURE_COLUMNS, PERCENTILES


@contextmanager
def inputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """What goes into the module while the context is open, if there is one."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


def feature_row(epoch: int, features: list[Tensor]) -> dict[str, Any]:
    """A row of features.csv."""
    values = np.percentile(torch.cat(features).float().cpu().numpy(), PERCENTILES)
    return dict(zip(FEATURE_COLUMNS, (epoch, *values.tolist()), strict=True))
