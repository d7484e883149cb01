"""The machine and the versions a run was made with."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..norms.kernels import Kernels, KernelsUnavailableError, in_use, load
from ..runs import RunConfig
from .group import Group


def versions() -> dict[str, str]:
    """Versions of everything that can move a number, compiled kernels where they are in use."""
    packages = ("normlab", "torch", "numpy", "pillow", "scikit-learn")
    found = {"python": platform.python_version(), **{name: _version(name) for name in packages}}
    kernels = in_use()
    if kernels is not None:
        found["kernels"] = f"{kernels.source[:12]} by {kernels.compiler}"
    return found


@functools.cache  # the same for as long as the process lasts, and read for every run
def _version(package: str) -> str:
    return version(package)


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, and the accelerator if one is used."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        found["accelerator"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
    return found


def fingerprint(device: str) -> dict[str, str]:
    """What decides the bits of a run besides its settings: versions, the processor and how many
    threads it gives, and the accelerator if one is used."""
    machine = hardware(device)
    names = {"cpu": "processor", "capability": "instruction set"}
    found = {
        **versions(),
        **{names.get(k, k): str(v) for k, v in machine.items() if k != "cores"},
        "threads": str(torch.get_num_threads()),
    }
    if device == "cuda":
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return found


def why_not_compiled(configs: Iterable[RunConfig]) -> str:
    """Why the layers of these runs cannot be compiled, as a clause; nothing where they can. They
    are compiled to find out, if they have not been yet."""
    if not all(config.can_be_compiled for config in configs):
        return "compiled layers need the device cpu"
    try:
        load()
    except KernelsUnavailableError as error:
        return str(error)
    return ""


def check_kernels(wanted: object) -> str:
    """The choice, if it is one.

    Raises:
        InputError: it is not.
    """
    if wanted not in ("auto", "torch", "compiled"):
        raise InputError(f"kernels must be auto, torch or compiled, got {wanted!r}.")
    return str(wanted)


def of_all(own: dict[str, str], group: Group) -> dict[str, str]:
    """The fingerprint of process 0, with what is otherwise on another."""
    first, *others = group.collected(own)
    for rank, other in enumerate(others, 1):
        differing = {name: text for name, text in other.items() if first.get(name) != text}
        first |= {f"{name} of process {rank}": text for name, text in differing.items()}
    return first


def kernels_of(config: RunConfig) -> Kernels | None:
    """The kernels that a run asks for, compiled where they have not been; None for PyTorch's
    operations.

    Raises:
        InputError: they cannot be used on this machine.
    """
    if config.kernels == "torch":
        return None
    try:
        return load()
    except KernelsUnavailableError as error:
        raise InputError(
            f"The layers cannot be compiled on this machine: {error}. Use --kernels torch."
        ) from error


def resolve_device(wanted: str) -> str:
    """``auto`` becomes ``cuda`` where a device is, else ``cpu``.

    Raises:
        InputError: CUDA was requested but is not available, or the device is unknown.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {wanted!r}.")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise InputError("torch does not see a CUDA device. Use --device cpu.")
    return "cuda" if available and wanted != "cpu" else "cpu"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
