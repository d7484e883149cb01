"""Whether layers can be exchanged in public networks, and trained through.

Needs timm or torchvision, where they fit the torch that is there::

    python benchmarks/networks.py timm:resnet18 torchvision:densenet121 --side 64

For each network it prints its parameters (millions) and sites; whether each arm can be put in,
checked, and gone through forward and backward; and whether conversions to ``frozen_bn`` and
``none`` are exact, with the largest logit and the largest difference, in float64.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import normlab
from normlab import InputError
from normlab.models import build_network, check_sites, norm_layers, parse_network

ARMS = ("bn", "gn:groups=auto", "ln", "none")
CLASSES, IMAGES = 10, 4


def exchanged(name: str, arm: str, x: Tensor) -> str:
    """Put an arm into a network and go forward and backward once."""
    try:
        model = build_network(parse_network(name), arm, CLASSES, x.shape[1], seed=0)
        check_sites(model, arm)
        logits = model.train()(x)
        if not isinstance(logits, Tensor):
            return f"gives {type(logits).__name__} in training"
        logits.sum().backward()
    except (InputError, ValueError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return "ok"


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """The network with scales, shifts and statistics as training might leave them. As it is made,
    its logits can be so small that any two networks agree."""
    generator = torch.Generator().manual_seed(1)
    for one in norm_layers(model):
        for name, tensor in one.layer.state_dict().items():
            if tensor.is_floating_point():
                draw = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(draw.abs() + 0.5 if name == "running_var" else tensor + 0.3 * draw)
    return model


def converted(name: str, to: str, x: Tensor) -> str:
    """Convert a network as it is made."""
    try:
        model = build_network(parse_network(name), "as_is", CLASSES, x.shape[1], seed=0).eval()
        made = normlab.convert(shaken(model), to, x[:2], how="matched")
    except InputError as error:
        return str(error).splitlines()[0][:100]
    kind = "exact" if made.exact else "approximate"
    with torch.no_grad():
        largest = float(model(x[:2]).abs().max())
    return f"{kind}, logits up to {largest:.2g} differ by {made.difference:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="+", help="names as --model takes them")
    parser.add_argument("--side", type=int, default=64, help="of the random images, in pixels")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(IMAGES, 3, asked.side, asked.side, generator=torch.Generator().manual_seed(0))
    print(f"torch {torch.__version__}")
    for name in asked.networks:
        try:
            model = build_network(parse_network(name), "as_is", CLASSES, 3, seed=0)
        except InputError as error:
            print(f"{name}: {error}")
            continue
        count = sum(parameter.numel() for parameter in model.parameters())
        sites = len(check_sites(model, "as_is"))
        print(f"{name}: {count / 1e6:.1f} million parameters, {sites} sites")
        for arm in ARMS:
            print(f"  {arm}: {exchanged(name, arm, x)}")
        for to in ("frozen_bn", "none"):
            print(f"  to {to}: {converted(name, to, x)}", flush=True)


if __name__ == "__main__":
    main()
