"""A state dict as tensors alone, which is what safetensors holds.

A layer can give more than its parameters and buffers: ``get_extra_state`` returns what it likes.
A tensor stays one. Anything else has to be plain JSON and travels as the bytes of its text, under
its name and ``JSON``. There is never a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..bounded import parse_json
from ..errors import InputError

JSON = ":json"
EXTRA = "_extra_state"
"""How torch names extra state, after the layer's path."""


def packed(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A copy of a state dict, tensors only; of one that is packed already too.

    >>> sorted(packed({"weight": torch.ones(1), "_extra_state": {"steps": 3}}))
    ['_extra_state:json', 'weight']

    Raises:
        InputError: extra state that is neither a tensor nor plain JSON.
    """
    found = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[name] = value.detach().clone()
            continue
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"The extra state of {name.rpartition('.')[0] or 'the model'} cannot be saved: "
                f"{error}. get_extra_state must return a tensor or plain JSON values."
            ) from error
        found[name + JSON] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The reverse of :func:`packed`.

    Raises:
        ValueError: bytes that are not JSON.
    """
    return {
        name.removesuffix(JSON): parse_json(bytes(tensor.cpu().numpy()), name)
        if name.endswith(JSON)
        else tensor
        for name, tensor in tensors.items()
    }
