"""The processes that make a run together: what they send each other, and how they end together.

Every process makes the same updates. Of each batch it has a part; gradients are summed over the
processes before each update, so all have the same weights. What is decided from one process's clock
or signals is agreed first. Process 0 alone speaks and writes.

Gradients travel in one buffer, with the loss and the predictions: the networks are small, and
parts of unequal size weigh by their images, which the averages of DistributedDataParallel do not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError, told
from ..launch import Launch, UnheardError
from ..norms.synchronized import Division
from ..stopping import Stopped, deferred, requested

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")
JOIN_SECONDS = 300.0
"""How long processes wait for each other before a run begins."""
_WAIT = timedelta(days=30)
"""A process waits for another as long as that lives: reading data may take hours. A death closes
the connection, which is noticed at once."""
_POLL_SECONDS = 0.05
_REASON_SECONDS = 2.0
_REASON = "why"


class LostError(InputError):
    """Another process of the run is gone."""


class Group:
    """The processes of a run, as one of them sees it. By itself it is a process alone, for which
    everything here is the identity.

    Attributes:
        launch: which process this is.
        ends_on_all: whether all end for the same reason, so that none need tell the others.
    """

    def __init__(self, launch: Launch = Launch()) -> None:  # noqa: B008 - frozen
        self.launch = launch
        self.ends_on_all = False
        # A process that a shell has started may outlive that shell; torchrun's end is the run's.
        self._torchrun = os.getppid() if os.environ.get("TORCHELASTIC_RUN_ID") else None

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes."""
        return self.launch.first

    @property
    def several(self) -> bool:
        return self.launch.size > 1

    def asked(self) -> int:
        """The signal that asked this process for an end, or 0. That torchrun is gone counts too."""
        if self.several and self._torchrun not in (None, os.getppid()):
            return int(signal.SIGTERM)
        return requested() or 0

    def stop(self, number: int) -> NoReturn:
        """Raise on every process, at the same place, that an end was asked for."""
        self.ends_on_all = True
        raise Stopped(number)

    def total(self, own: Tensor) -> Tensor:
        """The sum of a tensor over the processes: the same bits on each."""
        if not self.several:
            return own
        summed = own.clone(memory_format=torch.contiguous_format)
        self._collective(lambda: dist.all_reduce(summed))
        return summed

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Of each number the largest that a process has."""
        if not self.several:
            return numbers
        found = torch.tensor(numbers, dtype=torch.int64)
        self._collective(lambda: dist.all_reduce(found, op=dist.ReduceOp.MAX))
        return tuple(found.tolist())

    def gathered(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes behind each other; process r has ``counts[r]``."""
        if not self.several:
            return own
        padded = own.new_zeros((max(counts), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        self._collective(lambda: dist.all_gather(parts, padded))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def collected(self, own: T) -> list[T]:
        """What every process has, in their order; anything that can be pickled."""
        if not self.several:
            return [own]
        found: list[Any] = [None] * self.launch.size
        self._collective(lambda: dist.all_gather_object(found, own))
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """What process 0 makes, on every process.

        Raises:
            InputError: on every process, if it was raised on process 0.
        """
        if not self.several:
            return make()
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made[0] = make()
        self._collective(lambda: dist.broadcast_object_list(made, src=0))
        found: T = made[0]
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails within this block on one process fails on all, with the same message.

        Raises:
            InputError: what was raised on a process, the first one's before others.
        """
        failed = None
        try:
            yield
        except LostError:
            raise
        except InputError as error:
            if not self.several:
                raise
            failed = error
        said = self.collected(None if failed is None else str(failed))
        rank = next((rank for rank, text in enumerate(said) if text is not None), None)
        if rank is None:
            return
        where = "" if rank == 0 or said[rank] in said[:rank] else f"Process {rank}: "
        self.ends_on_all = True
        raise InputError(f"{where}{said[rank]}") from failed

    def divided(self, images: int) -> Division | None:
        """How a batch of so many images is divided; None where there is one process."""
        if not self.several:
            return None
        return Division(self.total, self.launch.rank, self.launch.shares(images))

    def add_up(
        self, parameters: Sequence[nn.Parameter], loss: Tensor, guesses: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the gradients over the processes, in place, and return the sums of a loss () and of
        predicted classes (k,), of which each process has its own images and 0 elsewhere."""
        if not self.several:
            return loss, guesses
        # A parameter that no process used keeps no gradient, as in one process.
        used = self.largest(*(p.grad is not None for p in parameters))
        moved = [p for p, there in zip(parameters, used, strict=True) if there]
        kinds = [p.dtype for p in moved]
        wide = torch.float64 if torch.float64 in kinds else torch.float32
        pieces = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in moved]
        flat = self.total(torch.cat([t.to(wide) for t in (*pieces, loss.view(1), guesses)]))
        sizes = [*(p.numel() for p in moved), 1, len(guesses)]
        *sums, loss_of_all, guesses_of_all = torch.split(flat, sizes)
        for p, summed in zip(moved, sums, strict=True):
            if p.grad is None:
                p.grad = torch.empty_like(p)
            p.grad.copy_(summed.view(p.shape))
        return loss_of_all.view(()), guesses_of_all.to(guesses.dtype)

    def take_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of process 0, as DistributedDataParallel does."""
        if not self.several:
            return
        of_type: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            of_type.setdefault(buffer.dtype, []).append(buffer)
        for buffers in of_type.values():
            flat = torch.cat([buffer.flatten() for buffer in buffers])
            self._collective(lambda flat=flat: dist.broadcast(flat, src=0))  # type: ignore[misc]
            if self.first:
                continue
            sizes = [buffer.numel() for buffer in buffers]
            with torch.no_grad():
                for buffer, values in zip(buffers, torch.split(flat, sizes), strict=True):
                    buffer.copy_(values.view(buffer.shape))

    def _collective(self, send: Callable[[], object]) -> None:
        try:
            send()
        except RuntimeError as error:
            raise LostError(f"Another process of this run is gone ({told(error)}).") from error


ALONE = Group()
"""One process."""


@contextmanager
def joined(launch: Launch, device: str) -> Iterator[Group]:
    """Meet the other processes, and part at the end of the block.

    What ends one process within the block ends the others, as soon as they wait for it; process 0
    raises what ended the first.

    Raises:
        InputError: a process did not come, or failed; there are more processes than devices.
        Stopped: another process was asked for an end.
    """
    if launch.size == 1:
        yield ALONE
        return
    _take_device(launch, device)
    store = _met(launch)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(
            backend, store=store, rank=launch.rank, world_size=launch.size, timeout=_WAIT
        )
    except RuntimeError as error:
        raise UnheardError(
            f"Process {launch.rank} could not connect to the others: {told(error)}."
        ) from error
    why = dist.PrefixStore("normlab", store)  # type: ignore[attr-defined]
    group = Group(launch)
    try:
        yield group
    except LostError as lost:
        with deferred():  # torchrun asks all for an end when one has died
            raise _reason(why, launch, lost) from lost
    except BaseException as error:
        if not group.ends_on_all:
            with suppress(RuntimeError):
                why.compare_set(_REASON, "", f"{launch.rank} {_as_text(error)}")
        raise
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _take_device(launch: Launch, device: str) -> None:
    if device != "cuda":
        return
    there = torch.cuda.device_count()
    if launch.local_rank >= there:
        raise InputError(
            f"There are more processes on this machine than CUDA devices ({there}). Start at most "
            f"{there} here, or use --device cpu."
        )
    torch.cuda.set_device(launch.local_rank)


def _met(launch: Launch) -> Store:
    """The store that the processes share, once all have come."""
    until = time.monotonic() + JOIN_SECONDS
    try:
        store = _store(launch)
        store.set(f"here/{launch.rank}", "")
    except (RuntimeError, ValueError) as error:
        raise UnheardError(
            f"Process {launch.rank} of {launch.size} does not reach the place where they meet "
            f"(MASTER_ADDR and MASTER_PORT): {told(error)}. Start all of them with torchrun."
        ) from error
    while missing := [r for r in range(launch.size) if not store.check([f"here/{r}"])]:
        if time.monotonic() > until:
            raise InputError(
                f"Of {launch.size} processes (WORLD_SIZE) {launch.size - len(missing)} came; "
                f"process {missing[0]} did not. Start all of them with torchrun."
            )
        time.sleep(_POLL_SECONDS)
    return store


def _store(launch: Launch) -> Store:
    """Where the processes leave word for each other: torchrun's, or else one that process 0 has."""
    most = timedelta(seconds=JOIN_SECONDS)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        found: Store = next(iter(dist.rendezvous("env://", timeout=most)))[0]  # type: ignore[attr-defined]
        return found
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # Whoever is missing is waited for where Ctrl-C is heard.
    own: Store = dist.TCPStore(  # type: ignore[attr-defined]
        *place, launch.size, launch.first, timeout=most, wait_for_workers=False
    )
    return own


def _as_text(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"stopped {getattr(error, 'signal', 2)}"
    return f"failed {error if isinstance(error, InputError) else told(error)}"


def _reason(why: Store, launch: Launch, lost: LostError) -> BaseException:
    """What ended the process that is gone, if it left word."""
    until = time.monotonic() + _REASON_SECONDS
    with suppress(RuntimeError):
        while not (left := why.check([_REASON])) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        if left:
            rank, how, text = why.get(_REASON).decode().split(" ", 2)
            if how == "stopped":
                return Stopped(int(text))
            return LostError(f"Process {rank}: {text}")
    return LostError(
        f"Another process of this run ended without a word ({told(lost.__cause__ or lost)}). The "
        "same command resumes from the last checkpoint."
    )


def names_of(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """States of a process under the names that a checkpoint has for it; process 0's are plain."""
    return {(f"{rank}.{name}" if rank else name): tensor for name, tensor in states.items()}


def states_of(named: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The reverse of :func:`names_of`, from the states of all processes."""
    split = ((name.rpartition("."), tensor) for name, tensor in named.items())
    return {name: tensor for (of, _, name), tensor in split if (int(of) if of else 0) == rank}
