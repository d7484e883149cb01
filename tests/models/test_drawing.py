"""Draws that are fixed by a key, on machines with and without a device."""

from __future__ import annotations

import random
import traceback

import numpy as np
import pytest
import torch

from normlab.keyed import key
from normlab.models import ResNet, drawing


def _drawn() -> list[float]:
    return [torch.rand(()).item(), float(np.random.rand()), random.random()]


@pytest.mark.parametrize("there", [True, False])
def test_a_key_fixes_every_generator_whether_or_not_a_device_is_there(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = key(3, "example")
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    expected = _drawn()
    monkeypatch.setattr(drawing, "_device_is_there", lambda: there)
    with drawing.drawn_by(3, "example"):
        assert _drawn() == expected


def test_nothing_is_kept_for_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch would keep the seed of every layer with the call stack as text, which takes long."""

    def kept(*_: object, **__: object) -> list[str]:
        raise AssertionError("the call stack was written out")

    monkeypatch.setattr(drawing, "_device_is_there", lambda: False)
    monkeypatch.setattr(traceback, "format_stack", kept)
    ResNet(1, 2, "bn", seed=0)
