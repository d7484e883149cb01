"""Time of forward and backward of each layer through its kernels, beside the operations of PyTorch
that they stand in for, and beside its twin in torch.nn.

python benchmarks/kernels.py [threads]

All ways alternate in one process. Processor time; the median of each way, and the ratios' median
and quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn

from normlab.norms import CATALOG
from normlab.norms.kernels import Kernels, computed_by, load
from normlab.studies import keep_memory

ROUNDS = 40
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


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    keep_memory()
    kernels = load()
    print(f"torch {torch.__version__}, {kernels.compiler}, {torch.get_num_threads()} thread(s), ")
    print(f"batches of 32, n = {ROUNDS} of each way\n")
    print("| shape | layout | arm | kernels ms | of PyTorch's operations | of torch.nn |")
    print("| --- | --- | --- | ---: | --- | --- |")
    medians: dict[str, list[float]] = {}
    for shape in SHAPES:
        for layout in LAYOUTS:
            x = torch.randn(32, *shape).contiguous(memory_format=layout).requires_grad_()
            g = torch.randn(32, *shape).contiguous(memory_format=layout)
            for name in LAYERS:
                spec = CATALOG[name]
                own = spec.layer(shape[0])
                ways = [(own, kernels), (own, None)]
                if spec.twin is not None:
                    ways.append((spec.twin(shape[0]), None))
                times: list[list[float]] = [[] for _ in ways]
                for round_ in range(ROUNDS + 3):
                    for (layer, chosen), found in zip(ways, times, strict=True):
                        taken = once(layer, x, g, chosen)
                        if round_ >= 3:
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
    print("\nGeometric mean over shapes and layouts, of torch.nn:")
    for name, found in medians.items():
        print(f"{name}: {statistics.geometric_mean(found):.2f}, at most {max(found):.2f}")


if __name__ == "__main__":
    main()
