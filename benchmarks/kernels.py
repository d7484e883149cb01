"""Time of forward and backward of each layer through its kernels, beside the operations of PyTorch
that they stand in for, and beside its twin in torch.nn; and of a step of training of each arm.

python benchmarks/kernels.py [threads] [float32 | bfloat16]

In bfloat16 the inputs and gradients of a layer have that type, its parameters are float32, and a
network trains under autocast. Goals are those of float32.

All ways alternate in one process. Processor time of all threads; the median of each way, and the
ratios' median and quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from ratios import Ratio, tell
from torch import nn

from normlab.models import ResNet
from normlab.norms import CATALOG
from normlab.norms.kernels import Kernels, computed_by, load
from normlab.runs import RunConfig
from normlab.studies import keep_memory
from normlab.training import train_step
from normlab.training.optimizer import LayerAwareOptimizer

ROUNDS, STEPS, WARM_UP = 40, 30, 3
SHAPES = ((16, 64, 64), (32, 32, 32), (64, 16, 16), (16, 32, 32), (64, 8, 8))
LAYOUTS = (torch.contiguous_format, torch.channels_last)
LAYERS = ("bn", "in", "bin", "ln", "gn")


def once(layer: nn.Module, x: torch.Tensor, g: torch.Tensor, kernels: Kernels | None) -> float:
    with computed_by(kernels):
        began = time.process_time()
        layer(x).backward(g)
        return time.process_time() - began


def ratio(times: list[float], others: list[float]) -> str:
    low, middle, high = statistics.quantiles(
        [a / b for a, b in zip(times, others, strict=True)], n=4
    )
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def layers(kernels: Kernels, precision: Any) -> None:
    """Each layer by itself, on batches of 32."""
    dtype = getattr(torch, precision)
    goals = (1.0, 1.15) if precision == "float32" else (None, None)
    print("| shape | layout | arm | kernels ms | of PyTorch's operations | of torch.nn |")
    print("| --- | --- | --- | ---: | --- | --- |")
    medians: dict[str, list[float]] = {}
    for shape in SHAPES:
        for layout in LAYOUTS:
            drawn = torch.randn(2, 32, *shape).to(dtype)
            x, g = (t.contiguous(memory_format=layout) for t in drawn)
            x.requires_grad_()
            for name in LAYERS:
                spec = CATALOG[name]
                own = spec.layer(shape[0])
                ways = [(own, kernels), (own, None)]
                if spec.twin is not None:
                    ways.append((spec.twin(shape[0]), None))
                times: list[list[float]] = [[] for _ in ways]
                for round_ in range(ROUNDS + WARM_UP):
                    for (layer, chosen), found in zip(ways, times, strict=True):
                        taken = once(layer, x, g, chosen)
                        if round_ >= WARM_UP:
                            found.append(taken)
                beside = ratio(times[0], times[2]) if len(ways) > 2 else "has none"
                if len(ways) > 2:
                    middle = [statistics.median(t) for t in times]
                    medians.setdefault(name, []).append(middle[0] / middle[2])
                print(
                    f"| {'x'.join(map(str, shape))} | {str(layout).removeprefix('torch.')} "
                    f"| {name} | {1e3 * statistics.median(times[0]):.3f} "
                    f"| {ratio(times[0], times[1])} | {beside} |",
                    flush=True,
                )
    for name, found in medians.items():
        middle, cases = statistics.geometric_mean(found), len(found)
        tell(
            Ratio(f"{name} beside torch.nn's, geometric mean of shapes and layouts",
                  middle, min(found), max(found), cases, at_most=goals[0]),
            Ratio.of(f"{name} beside torch.nn's, worst case", [max(found)], at_most=goals[1]),
        )  # fmt: skip


def network(kernels: Kernels, precision: Any) -> None:
    """A step of training at n = 2, 32 px, batch 32, channels_last."""
    images = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = images, torch.randint(0, 10, (32,))
    ways: dict[str, tuple[nn.Module, LayerAwareOptimizer, RunConfig, Kernels | None]] = {}
    for name in ("none", "torch_bn", *LAYERS):
        config = RunConfig(norm=name, precision=precision)
        for chosen in (None, kernels):
            model = ResNet(config.n, 10, name, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            label = f"{name}, compiled" if chosen else name
            ways[label] = model, LayerAwareOptimizer(model, config), config, chosen
    times: dict[str, list[float]] = {label: [] for label in ways}
    for round_ in range(STEPS + WARM_UP):
        for label, (model, optimizer, config, chosen) in ways.items():
            with computed_by(chosen):
                began = time.process_time()
                train_step(model, optimizer, [batch], config)
                taken = time.process_time() - began
            if round_ >= WARM_UP:
                times[label].append(taken)
    print(f"\nA step of training, n = {STEPS} of each way:\n")
    print("| arm | ms | of none | of torch_bn |")
    print("| --- | ---: | --- | --- |")
    for label, found in times.items():
        none, theirs = ratio(found, times["none"]), ratio(found, times["torch_bn"])
        print(f"| {label} | {1e3 * statistics.median(found):.1f} | {none} | {theirs} |")
    tell(
        *(
            Ratio.of(
                f"a step of {label} beside one of {other}",
                [a / b for a, b in zip(found, times[other], strict=True)],
                at_most=goal if label.endswith("compiled") and precision == "float32" else None,
            )
            for label, found in times.items()
            for other, goal in (("none", 1.10), ("torch_bn", 0.90))
            if label.split(",")[0] not in ("none", "torch_bn")
        )
    )


def main() -> None:
    asked = sys.argv[1:]
    threads, precision = *asked, *("1", "float32")[len(asked) :]
    torch.set_num_threads(int(threads))
    keep_memory()
    kernels = load()
    print(f"torch {torch.__version__}, {kernels.compiler}, {torch.get_num_threads()} thread(s), ")
    print(f"{precision}, batches of 32, n = {ROUNDS} of each way\n")
    layers(kernels, precision)
    network(kernels, precision)


if __name__ == "__main__":
    main()
