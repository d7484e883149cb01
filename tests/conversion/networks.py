"""What tests of converted networks share."""

from __future__ import annotations

import torch
from torch import nn

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and parameters as after training: none is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and name.rpartition(".")[2] != "v":
            with torch.no_grad():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.3 if "var" in name else drawn - 0.4)
    return network
