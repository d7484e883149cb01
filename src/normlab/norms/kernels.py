"""The layers in a few passes over memory: kernels in C, compiled once on the machine they run on.

``kernels.c`` is compiled with the system's C compiler when it is first needed (a few seconds) and
kept in the cache. A machine without a compiler has the operations of PyTorch. Tensors may have 16
bits: what is computed of them is computed in float32 and float64, and rounded once. No operation is
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
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..cache_files import one_at_a_time
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
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""As in the source."""


_FORWARD, _BACKWARD = struct.Struct("=14Q2d11qd"), struct.Struct("=11Q11qd")
"""As the source declares them: addresses, numbers, and the shape with what is asked of it."""


class KernelsUnavailableError(Exception):
    """Why the kernels cannot be used here, as a clause."""


class Running(NamedTuple):
    """Running statistics that move by ``share`` towards those of a batch, the variance times
    ``factor``, and the number of batches; ``share`` is None for a plain average."""

    mean: Tensor | None
    var: Tensor | None
    batches: Tensor | None
    share: float | None
    factor: float


_NOT_MOVED = Running(None, None, None, 0.0, 0.0)


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
        pools: tuple[int, ...],
        centred: tuple[bool, ...],
        fixed: tuple[Tensor, Tensor] | None,
        eps: float,
        saved: Tensor,
        residual: Tensor | None = None,
        relu: bool = False,
        var: Tensor | None = None,
        running: Running | None = None,
        factors: Tensor | None = None,
    ) -> Tensor:
        """The output. There are two pools where there is a gate; ``centred`` says which of them
        take their mean away. ``saved`` takes what backward needs, one part after the other: mean
        and 1 / sqrt(var + eps) of the sets, or the mean and variance that are ``fixed``. ``var``
        takes the variance of the first part's sets, and ``running`` (see :func:`can_move`) moves
        towards its mean and variance. ``residual``, laid out as ``x`` is, is added to the output,
        and ``relu`` comes last. ``factors`` (3, N, C) takes pivot, scale and shift of each map, for
        :meth:`output`."""
        y = torch.empty_like(x)
        given = fixed or (None, None)
        mean, variance, batches, share, factor = running or _NOT_MOVED
        failed = self.library.normlab_forward(
            _FORWARD.pack(
                x.data_ptr(), _at(weight), _at(bias), _at(gate), _at(residual), _at(given[0]),
                _at(given[1]), y.data_ptr(), saved.data_ptr(), _at(var), _at(mean), _at(variance),
                _at(factors), _at(batches), share, factor, *_shape(x), pools[0], pools[-1],
                centred[0], centred[-1], relu, torch.get_num_threads(), TYPES[x.dtype], eps,
            )
        )  # fmt: skip
        if failed:
            raise MemoryError("there is no memory for the statistics of a layer")
        if running is not None:
            torch.autograd.graph.increment_version([t for t in running[:3] if t is not None])
        return y

    def output(self, x: Tensor, factors: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """The output of :meth:`forward` once more, in its bits, from the factors that it found."""
        y = torch.empty_like(x)
        self.library.normlab_output(
            _FORWARD.pack(
                x.data_ptr(), 0, 0, 0, _at(residual), 0, 0, y.data_ptr(), 0, 0, 0, 0,
                factors.data_ptr(), 0, 0.0, 0.0, *_shape(x), 0, 0, True, True, relu,
                torch.get_num_threads(), TYPES[x.dtype], 0.0,
            )
        )  # fmt: skip
        return y

    def backward(
        self,
        g: Tensor,
        y: Tensor | None,
        x: Tensor,
        weight: Tensor | None,
        gate: Tensor | None,
        pools: tuple[int, ...],
        centred: tuple[bool, ...],
        eps: float,
        saved: Tensor,
        needed: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight, bias, gate and residual, those that are needed. ``g`` and
        ``y``, the output where a ReLU came last, are laid out as ``x`` is."""
        needs_x, needs_weight, needs_bias, needs_gate, needs_residual = needed
        of_residual = torch.empty_like(x) if needs_residual else None
        # Whoever needs the gradient of the residual writes that of x as well.
        dx = torch.empty_like(x) if needs_x or needs_residual else None
        channels = x.shape[1]
        of_weight, of_bias, of_gate = (
            torch.empty(channels, dtype=torch.float32) if needs else None
            for needs in (needs_weight, needs_bias, needs_gate)
        )
        failed = self.library.normlab_backward(
            _BACKWARD.pack(
                g.data_ptr(), _at(y), x.data_ptr(), _at(weight), _at(gate), saved.data_ptr(),
                _at(dx), _at(of_residual), _at(of_weight), _at(of_bias), _at(of_gate), *_shape(x),
                pools[0], pools[-1], centred[0], centred[-1], 0, torch.get_num_threads(),
                TYPES[x.dtype], eps,
            )
        )  # fmt: skip
        if failed:
            raise MemoryError("there is no memory for the gradients of a layer")
        return dx if needs_x else None, of_weight, of_bias, of_gate, of_residual

    def add_relu(self, x: Tensor, residual: Tensor) -> Tensor:
        """ReLU(x + residual), for a residual that is laid out as ``x`` is."""
        y = torch.empty_like(x)
        self.library.normlab_add_relu(
            x.data_ptr(), residual.data_ptr(), y.data_ptr(), x.numel(), torch.get_num_threads(),
            TYPES[x.dtype],
        )  # fmt: skip
        return y


def layout_of(x: Tensor) -> torch.memory_format | None:
    """How a tensor lies in memory, of the two ways that the kernels know; None for any other."""
    if x.is_contiguous():
        return torch.contiguous_format
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else None


def accepts(x: Tensor, *of_channels: Tensor | None) -> bool:
    """Whether the kernels know what to do with an input (plain memory of a CPU, in float32 or
    16 bits) and with these values of its channels, of any floating-point type."""
    if x.dtype not in TYPES or not _is_plain(x) or layout_of(x) is None or not x.numel():
        return False
    channels = x.size(1)
    for t in of_channels:
        if t is not None and not (
            _is_plain(t) and t.dim() == 1 and t.size(0) == channels and t.is_floating_point()
        ):
            return False
    # Something that follows every operation has to see it.
    return not torch._C._len_torch_dispatch_stack()


def can_move(running: Running, x: Tensor) -> bool:
    """Whether the kernels can move running statistics towards those of ``x``, which they accept."""
    mean, var, batches = running.mean, running.var, running.batches
    if mean is None or var is None or running.share is None:
        return False
    channels = x.size(1)
    for t in (mean, var):
        if not (t.dtype is torch.float32 and t.numel() == channels and _is_writable(t)):
            return False
    return batches is None or (
        batches.dtype is torch.int64 and batches.numel() == 1 and _is_writable(batches)
    )


def laid_out_as(x: Tensor, g: Tensor) -> Tensor | None:
    """Another tensor of the shape of ``x`` (a gradient, say) in the layout of ``x``, which is
    accepted; None where the kernels cannot read it."""
    layout = layout_of(x)
    if layout is None or g.dtype is not x.dtype or g.shape != x.shape or not _is_plain(g):
        return None
    return g.contiguous(memory_format=layout)


def _is_plain(t: Tensor) -> bool:
    """Whether a tensor is values in memory, and nothing more."""
    return (
        (type(t) is Tensor or type(t) is torch.nn.Parameter)
        and t.is_cpu
        and t.layout is torch.strided
        and not t.is_neg()
    )


def is_row(t: Tensor) -> bool:
    """Whether a tensor is numbers one after the other, as the kernels keep for backward."""
    return t.dtype is torch.float32 and t.is_contiguous() and _is_plain(t)


def _is_writable(t: Tensor) -> bool:
    """Whether a kernel may change a tensor, and tell autograd."""
    return _is_plain(t) and t.is_contiguous() and not t.is_inference() and not t.requires_grad


def _shape(x: Tensor) -> tuple[int, int, int, bool]:
    images, channels, height, width = x.shape
    # Maps of one pixel lie alike in both ways, and are faster by rows of channels.
    last = height * width == 1 or not x.is_contiguous()
    return images, channels, height * width, last


def _at(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


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
            with one_at_a_time("kernels", key, _waiting):
                found = _kept(folder, key)  # another process may have made it meanwhile
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


def _waiting() -> None:
    """Another process compiles them, which takes a few seconds: nothing need be said."""


def _declare(library: ctypes.CDLL) -> None:
    """The types of its functions, which ctypes cannot know."""
    for asked in (library.normlab_forward, library.normlab_output, library.normlab_backward):
        asked.argtypes = (ctypes.c_char_p,)  # what is asked, packed
    library.normlab_output.restype = None
    library.normlab_add_relu.argtypes = (
        *(ctypes.c_void_p,) * 3, ctypes.c_int64, ctypes.c_int, ctypes.c_int
    )  # fmt: skip
    library.normlab_add_relu.restype = None


def _compiler() -> list[str]:
    """The command that compiles C: the variable CC, or what is there."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for command in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        program = shutil.which(command[0])
        if program and (chosen or not _only_offers_to_install(program)):
            return [program, *command[1:]]
    wanted = f"the compiler {chosen[0]} (CC)" if chosen else "a C compiler (cc, gcc or clang)"
    raise KernelsUnavailableError(f"{wanted} was not found")


def _only_offers_to_install(program: str) -> bool:
    """Whether this is what macOS has in the place of a compiler: a program that asks, in a window,
    to install one."""
    if platform.system() != "Darwin" or Path(program).parent != Path("/usr/bin"):
        return False
    try:
        _said_by(["xcode-select", "--print-path"])
    except KernelsUnavailableError:
        return True
    return False


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
    """Compile into the folder. What is there is whole: it is written aside and renamed."""
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
