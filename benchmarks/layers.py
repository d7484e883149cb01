"""Time of a layer's forward and backward beside its twin in torch.nn.

python benchmarks/layers.py [threads]

Both sides alternate in one process; medians of the single times, and the ratio's quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn

from normlab.norms import CATALOG
from normlab.studies import keep_memory

ROUNDS = 60
SHAPES = ((32, 16, 32, 32), (32, 64, 8, 8), (32, 16, 8, 8))


def _once(layer: nn.Module, x: torch.Tensor, g: torch.Tensor) -> float:
    began = time.perf_counter()
    layer(x).backward(g)
    return time.perf_counter() - began


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    keep_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), n = {ROUNDS} pairs\n")
    print("| shape | layout | arm | own ms | torch.nn ms | ratio (quartiles) |")
    print("| --- | --- | --- | ---: | ---: | --- |")
    for shape in SHAPES:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
            g = torch.randn(shape).contiguous(memory_format=layout)
            for name in ("bn", "in", "ln", "gn"):
                spec = CATALOG[name]
                assert spec.twin is not None
                own, twin = spec.layer(shape[1]), spec.twin(shape[1])
                for _ in range(5):
                    _once(own, x, g), _once(twin, x, g)
                pairs = [(_once(own, x, g), _once(twin, x, g)) for _ in range(ROUNDS)]
                ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
                low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
                print(
                    f"| {'x'.join(map(str, shape))} | {str(layout).removeprefix('torch.')} "
                    f"| {name} | {1e3 * ours:.3f} | {1e3 * theirs:.3f} "
                    f"| {middle:.2f} ({low:.2f} to {high:.2f}) |"
                )


if __name__ == "__main__":
    main()
