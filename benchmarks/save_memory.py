"""What --save-memory saves and costs: bytes kept for backward, the peak of a step, processor time.

python benchmarks/save_memory.py [n] [rounds]

The network of 6n+2 layers (n = 2) at 32 px, batch 32, channels_last, one thread; layers by
operations of PyTorch and compiled. What is kept is counted as in run.json; the peak is what tensors
take during a step beyond parameters, their gradients and the batch, by PyTorch's allocator. With
and without the option alternate in one process, step by step: of each way the median of processor
time, of the ratios the median and the quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from ratios import Ratio, tell
from torch import nn
from torch.profiler import ProfilerActivity, profile

from normlab.models import ResNet
from normlab.norms.kernels import Kernels, computed_by, load
from normlab.runs import RunConfig
from normlab.studies import keep_memory
from normlab.training.memory import kept_for_backward
from normlab.training.step import Batch, forward, gradients

ROUNDS, WARM_UP = 60, 3
ARMS = ("bn", "in", "bin", "ln", "gn")
WAYS = (False, True)
MIB = 1 << 20


def peak(work: Callable[[], object]) -> int:
    """The most bytes that tensors take in addition at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def measured(
    name: str, n: int, rounds: int, batch: Batch, kernels: Kernels | None
) -> tuple[list[int], list[int], dict[bool, list[float]]]:
    """Bytes that are kept, the peak, and times of an arm, without and with the option."""
    config = RunConfig(norm=name, n=n)
    model: nn.Module = ResNet(n, 10, name, seed=0)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(on: bool) -> None:
        gradients(model, [batch], config, save_memory=on)

    with computed_by(kernels):
        step(False)  # the gradients are there from now on
        kept = [
            kept_for_backward(model, lambda: forward(model, *batch, config)[0], save_memory=on)
            for on in WAYS
        ]
        most = [peak(lambda: step(on)) for on in WAYS]  # noqa: B023
        times: dict[bool, list[float]] = {on: [] for on in WAYS}
        for round_ in range(rounds + WARM_UP):
            for on in WAYS if round_ % 2 else WAYS[::-1]:
                began = time.process_time()
                step(on)
                taken = time.process_time() - began
                if round_ >= WARM_UP:
                    times[on].append(taken)
    return kept, most, times


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    torch.set_num_threads(1)
    keep_memory()
    kernels = load()
    images = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = images, torch.randint(0, 10, (32,))
    print(f"torch {torch.__version__}, {kernels.compiler}, n = {n}, {rounds} steps of each\n")
    print("| arm | layers | kept MiB | saving | peak MiB | saving | ms | saving |")
    print("| --- | --- |" + " ---: |" * 6)
    found: list[Ratio] = []
    for name in ARMS:
        for chosen in (None, kernels):
            kept, most, times = measured(name, n, rounds, batch, chosen)
            arm = f"{name}, {'compiled' if chosen else 'by torch'}"
            medians = [1e3 * statistics.median(times[on]) for on in WAYS]
            cells = [*(count / MIB for count in (*kept, *most)), *medians]
            print(f"| {arm.replace(', ', ' | ')} | {' | '.join(f'{c:.1f}' for c in cells)} |",
                  flush=True)  # fmt: skip
            longer = [a / b for a, b in zip(times[True], times[False], strict=True)]
            found += [
                Ratio.of(f"kept with --save-memory beside without, {arm}", [kept[1] / kept[0]],
                         at_most=0.6),
                Ratio.of(f"peak with --save-memory beside without, {arm}", [most[1] / most[0]]),
                Ratio.of(f"a step with --save-memory beside one without, {arm}", longer,
                         at_most=1.1),
            ]  # fmt: skip
    tell(*found)


if __name__ == "__main__":
    main()
