"""The layers in a few passes over memory: kernels in C, compiled once on the machine they run on.

``kernels.c`` is compiled with the system's C compiler when it is first needed (about a second)
and kept in the cache. A machine without a compiler has the operations of PyTorch. No operation is
reordered or contracted, so what the kernels compute should depend neither on the compiler, nor on
the processor, nor on the number of threads. Tests hold that for threads and for instructions of the
processor, with the compiler that is there.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files import write_bytes
from ..leftovers import temporary_prefix
from ..places import cache_folder

SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""None of these lets the compiler change a value."""
_SHARED = ("-shared", "-fPIC", "-Wno-psabi")
_LIBRARY = ("-lm",)
_TRIED = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())
"""What a compiler may lack: the processor's own instructions, several threads."""
_SECONDS = 120
_MOST = 1 << 24
FIXED, BATCH = -1, 0
"""As in the source."""


Part = tuple[int, Tensor, Tensor]


class KernelsUnavailableError(Exception):
    """Why the kernels cannot be used here, as a clause."""


@dataclass(frozen=True)
class Kernels:
    """The compiled library.

    Attributes:
        compiler: what compiled it, in the compiler's own words.
        source: SHA-256 of the source, which decides every bit of what it computes.
    """

    library: ctypes.CDLL
    compiler: str
    source: str

    def forward(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        gate: Tensor | None,
        parts: Sequence[Part],
        var: Tensor | None,
        eps: float,
        residual: Tensor | None = None,
        relu: bool = False,
        factors: Tensor | None = None,
    ) -> Tensor:
        """The output. Each part has its pool's number and the mean and variance that are given, or
        tensors for the mean and 1 / sqrt(var + eps) of its sets; ``var`` takes the variance of the
        first part's sets. There are two parts where there is a gate. ``residual``, laid out as
        ``x`` is, is added to the output, and ``relu`` comes last. ``factors`` takes what
        :meth:`output` needs."""
        y = torch.empty_like(x)
        (pool_0, mean_0, second_0), (pool_1, mean_1, second_1) = parts[0], parts[-1]
        failed = self.library.normlab_forward(
            x.data_ptr(), y.data_ptr(), _at(weight), _at(bias), _at(gate), mean_0.data_ptr(),
            second_0.data_ptr(), mean_1.data_ptr(), second_1.data_ptr(), _at(var),
            _at(residual), relu, *_shape(x), pool_0, pool_1, eps, torch.get_num_threads(),
            _at(factors),
        )  # fmt: skip
        if failed:
            raise MemoryError("there is no memory for the statistics of a layer")
        return y

    def factors(self, x: Tensor) -> Tensor:
        """Room for pivot, scale and shift of every map, of each image one after the other."""
        return x.new_empty(x.shape[0], 3, x.shape[1])

    def output(self, x: Tensor, factors: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """The output of :meth:`forward` once more, in its bits, from the factors that it found."""
        y = torch.empty_like(x)
        self.library.normlab_output(
            x.data_ptr(), y.data_ptr(), factors.data_ptr(), _at(residual), relu, *_shape(x),
            torch.get_num_threads(),
        )  # fmt: skip
        return y

    def backward(
        self,
        g: Tensor,
        y: Tensor | None,
        x: Tensor,
        weight: Tensor | None,
        gate: Tensor | None,
        parts: Sequence[Part],
        eps: float,
        needed: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias, gate and residual, those that are needed. ``g`` and
        ``y``, the output where a ReLU came last, are laid out as ``x`` is."""
        of_residual = torch.empty_like(x) if needed[4] else None
        # Whoever needs the gradient of the residual writes that of x as well.
        dx = torch.empty_like(x) if needed[0] or needed[4] else None
        of_weight, of_bias, of_gate = (x.new_empty(x.shape[1]) if n else None for n in needed[1:4])
        (pool_0, mean_0, second_0), (pool_1, mean_1, second_1) = parts[0], parts[-1]
        failed = self.library.normlab_backward(
            g.data_ptr(), _at(y), x.data_ptr(), _at(dx), _at(of_residual), _at(weight),
            _at(gate), mean_0.data_ptr(), second_0.data_ptr(), mean_1.data_ptr(),
            second_1.data_ptr(), _at(of_weight), _at(of_bias), _at(of_gate), *_shape(x), pool_0,
            pool_1, eps, torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError("there is no memory for the gradients of a layer")
        return dx if needed[0] else None, of_weight, of_bias, of_gate, of_residual

    def add_relu(self, x: Tensor, residual: Tensor) -> Tensor:
        """ReLU(x + residual), for a residual that is laid out as ``x`` is."""
        y = torch.empty_like(x)
        self.library.normlab_add_relu(
            x.data_ptr(), residual.data_ptr(), y.data_ptr(), x.numel(), torch.get_num_threads()
        )
        return y

    def move(self, running: Tensor, new: Tensor, share: float, factor: float) -> bool:
        """Move running statistics (C,) towards ``new * factor``, as batch norm does; False, and
        nothing done, where the kernels do not know these tensors."""
        for t in (running, new):
            if not _is_plain(t) or t.dtype != torch.float32 or not t.is_contiguous():
                return False
        if running.numel() != new.numel() or torch._C._len_torch_dispatch_stack():
            return False
        self.library.normlab_move(
            running.data_ptr(), new.data_ptr(), share, factor, running.numel()
        )
        torch.autograd.graph.increment_version(running)
        return True


def layout_of(x: Tensor) -> torch.memory_format | None:
    """How a tensor lies in memory, of the two ways that the kernels know; None for any other."""
    if x.is_contiguous():
        return torch.contiguous_format
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else None


def accepts(x: Tensor, *of_channels: Tensor | None) -> bool:
    """Whether the kernels know what to do with an input (plain memory of a CPU, in float32) and
    with these values of its channels, of any floating-point type."""
    return (
        _is_plain(x)
        and x.dtype == torch.float32
        and x.numel() > 0
        and layout_of(x) is not None
        and all(t is None or (_is_plain(t) and t.shape == x.shape[1:2]) for t in of_channels)
        # Something that follows every operation has to see it.
        and not torch._C._len_torch_dispatch_stack()
    )


def laid_out_as(x: Tensor, g: Tensor) -> Tensor | None:
    """Another tensor of the shape of ``x`` (a gradient, say) in the layout of ``x``, which is
    accepted; None where the kernels cannot read it."""
    layout = layout_of(x)
    if layout is None or not _is_plain(g) or g.dtype != x.dtype or g.shape != x.shape:
        return None
    return g.contiguous(memory_format=layout)


def _is_plain(t: Tensor) -> bool:
    """Whether a tensor is values in memory, and nothing more."""
    return (
        type(t) in (Tensor, torch.nn.Parameter)
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and t.is_floating_point()
        and not t.is_neg()
    )


def _shape(x: Tensor) -> tuple[int, int, int, bool]:
    images, channels, height, width = x.shape
    # Maps of one pixel lie alike in both ways, and are faster by rows of channels.
    last = height * width == 1 or layout_of(x) == torch.channels_last
    return images, channels, height * width, last


def _at(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


# ---------------------------------------------------------------------------------------------
# Which way layers take.

_used: Kernels | None = None


def in_use() -> Kernels | None:
    """The kernels, if layers use them now."""
    return _used


@contextmanager
def computed_by(kernels: Kernels | None) -> Iterator[None]:
    """Within this block layers use these kernels; None, the operations of PyTorch."""
    global _used
    before, _used = _used, kernels
    try:
        yield
    finally:
        _used = before


# ---------------------------------------------------------------------------------------------
# Compiling and loading.


@cache
def load() -> Kernels:
    """The kernels, compiled if they have not been yet.

    Raises:
        KernelsUnavailableError: there is no compiler, it fails, or there is no safe place to keep
            what it makes.
    """
    command = _compiler()
    version = _said_by([*command, "--version"])
    source = SOURCE.read_bytes()
    made_by = repr((_FLAGS, _TRIED, _SHARED, command, version, _processor()))
    key = hashlib.sha256(source + made_by.encode(errors="replace")).hexdigest()[:32]
    try:
        folder = _own_folder()
        found = _kept(folder, key)
        if found is None:
            _compile(command, folder, key)
            found = _kept(folder, key)
        if found is None:
            raise KernelsUnavailableError(f"what was compiled into {folder} is not there any more")
        library = ctypes.CDLL(str(found))
    except (OSError, InputError) as error:
        raise KernelsUnavailableError(str(error).rstrip(".")) from error
    _declare(library)
    return Kernels(library, version.splitlines()[0], hashlib.sha256(source).hexdigest())


def _declare(library: ctypes.CDLL) -> None:
    """The types of its functions, which ctypes cannot know."""
    pointer, number, choice = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    shape = (number, number, number, choice, choice, choice, ctypes.c_double, choice)
    library.normlab_forward.argtypes = (*(pointer,) * 11, choice, *shape, pointer)
    library.normlab_output.argtypes = (*(pointer,) * 4, choice, *shape[:4], choice)
    library.normlab_output.restype = None
    library.normlab_backward.argtypes = (*(pointer,) * 14, *shape)
    library.normlab_add_relu.argtypes = (*(pointer,) * 3, number, choice)
    library.normlab_add_relu.restype = None
    single = ctypes.c_float
    library.normlab_move.argtypes = (pointer, pointer, single, single, number)
    library.normlab_move.restype = None


def _compiler() -> list[str]:
    """The command that compiles C: the variable CC, or what is there."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for command in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        program = shutil.which(command[0])
        if program:
            return [program, *command[1:]]
    wanted = f"the compiler {chosen[0]} (CC)" if chosen else "a C compiler (cc, gcc or clang)"
    raise KernelsUnavailableError(f"{wanted} was not found")


def _said_by(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelsUnavailableError(f"{command[0]} does not run ({error})") from error
    said = done.stdout.strip() or done.stderr.strip()
    if done.returncode or not said:
        raise KernelsUnavailableError(f"{command[0]} does not work ({_last_line(said)})")
    return said


def _processor() -> str:
    """What the machine code depends on: the instructions that the processor has."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _own_folder() -> Path:
    """Where compiled kernels are kept: code that is run, so no one else may write there.

    Raises:
        KernelsUnavailableError: someone else may.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = cache_folder(f"kernels-{user}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours_alone(folder):
        raise KernelsUnavailableError(
            f"others may write to {folder}. Remove it, or set NORMLAB_CACHE to a folder of your own"
        )
    return folder


def _is_ours_alone(path: Path) -> bool:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def _kept(folder: Path, key: str) -> Path | None:
    """The library of this key, if it is as it was made: its name has the hash of its content.

    A library that a full disk cut short would end the process that touches it.
    """
    for path in sorted(folder.glob(f"{key}-*.so")):
        if _is_ours_alone(path) and path.stat().st_size <= _MOST:
            if path.name == _name(key, path.read_bytes()):
                return path
            path.unlink(missing_ok=True)
    return None


def _name(key: str, content: bytes) -> str:
    return f"{key}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _compile(command: list[str], folder: Path, key: str) -> None:
    """Compile into the folder.

    Several processes may do so at once: each writes aside and renames, and any result serves.
    """
    said = ""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as aside:
        made = Path(aside) / "kernels.so"
        for more in _TRIED:
            flags = [*_FLAGS, *more, *_SHARED]
            try:
                done = subprocess.run(
                    [*command, *flags, str(SOURCE), "-o", str(made), *_LIBRARY],
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_SECONDS,
                )
            except subprocess.SubprocessError as error:
                raise KernelsUnavailableError(f"{command[0]} does not end ({error})") from error
            if not done.returncode:
                content = made.read_bytes()
                kept = folder / _name(key, content)
                write_bytes(kept, content)
                kept.chmod(0o600)  # whatever the system gives new files
                return
            said = done.stderr
    raise KernelsUnavailableError(f"{command[0]} cannot compile them ({_last_line(said)})")


def _last_line(said: str) -> str:
    return said.strip().rpartition("\n")[2][:200] or "it says nothing"
