"""What keeping freed memory saves a training step: page faults and CPU time, with and without.

python benchmarks/memory.py

Each side runs in fresh processes, alternating; n = 2 network with bn, batch 32, images of 64 px.
CPU time (user and system), since it is less moved by other work on the machine than wall time.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

from ratios import Ratio, tell

PROCESSES, STEPS = 5, 20


def _steps(keep: bool) -> None:
    import torch
    from torch.nn import functional as F

    from normlab.models import ResNet
    from normlab.studies import keep_memory

    torch.set_num_threads(1)
    if keep:
        keep_memory()
    model = ResNet(2, 10, seed=0).to(memory_format=torch.channels_last)
    x = torch.randn(32, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    y = torch.arange(32) % 10
    for step in range(STEPS + 3):
        if step == 3:
            before = resource.getrusage(resource.RUSAGE_SELF)
        F.cross_entropy(model(x), y).backward()
        model.zero_grad()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print((after.ru_minflt - before.ru_minflt) / STEPS, 1e3 * seconds / STEPS)


def main() -> None:
    if len(sys.argv) > 1:
        _steps(sys.argv[1] == "keep")
        return
    found: dict[str, list[tuple[float, ...]]] = {"as glibc does": [], "keep": []}
    for _ in range(PROCESSES):
        for side, results in found.items():
            command = [sys.executable, __file__, side]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(tuple(map(float, done.stdout.split())))
    print("| side | page faults a step | CPU ms a step: median (range) |\n| --- | ---: | --- |")
    for side, results in found.items():
        faults, times = zip(*results, strict=True)
        print(
            f"| {side} | {statistics.median(faults):,.0f} "
            f"| {statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f}) |"
        )
    theirs, ours = ([spent for _, spent in results] for results in found.values())
    pairs = zip(ours, theirs, strict=True)
    tell(Ratio.of("a step that keeps freed memory, beside one that does not",
                  [a / b for a, b in pairs]))  # fmt: skip


if __name__ == "__main__":
    main()
