"""Bytes of tensors, as PyTorch's allocator of the CPU counts them."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def bytes_of(work: Callable[[], object]) -> tuple[int, int]:
    """What tensors took and did not give back, and the most of it at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return now, most
