"""Which of several processes this one is, where torchrun or the like has started it.

Read from the variables that torchrun sets, without importing torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InputError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started_by(processes: int) -> list[str]:
    """The words that go before ``normlab train``, so that so many processes make the run.

    Without the ``--`` torchrun takes an option of ours, ``--n``, for one of its own.

    >>> started_by(2)
    ['torchrun', '--nproc-per-node', '2', '-m', '--']
    """
    return ["torchrun", "--nproc-per-node", str(processes), "-m", "--"] if processes > 1 else []


HOW = " ".join([*started_by(2), "normlab", "train"])


def without_start(words: Sequence[str]) -> list[str]:
    """A command without the words of :func:`started_by`.

    >>> without_start(["torchrun", "--nproc-per-node", "2", "-m", "--", "normlab", "train"])
    ['normlab', 'train']
    """
    count = words[2] if len(words) > 2 else ""
    known = started_by(int(count)) if count.isascii() and count.isdigit() and len(count) < 6 else []
    return list(words[len(known) :] if list(words[: len(known)]) == known else words)


class UnheardError(InputError):
    """What no other process can say, since this one never reached them."""


@dataclass(frozen=True)
class Launch:
    """A process and how many there are.

    Attributes:
        rank: which of all processes, from 0.
        size: how many there are.
        local_rank: which of those on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone speaks and writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` things are for this process. The parts follow each other, and their
        sizes differ by one at most.

        >>> [Launch(rank, 2).share(5) for rank in range(2)]
        [slice(0, 3, None), slice(3, 5, None)]
        >>> Launch().share(5)
        slice(0, 5, None)
        """
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def shares(self, count: int) -> tuple[int, ...]:
        """How many of ``count`` things each process has.

        >>> Launch(0, 4).shares(6)
        (2, 2, 1, 1)
        """
        parts = (Launch(rank, self.size).share(count) for rank in range(self.size))
        return tuple(part.stop - part.start for part in parts)


def launched() -> Launch:
    """This process among those that were started together; alone where there is but one.

    Raises:
        InputError: there are several, and it is not said where they meet, or which this is.
    """
    size = _number("WORLD_SIZE", 1)
    if size < 2:
        return Launch()
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            f" not set, so the processes cannot find each other. Start them with torchrun: {HOW}. "
            "For a run in one process, unset WORLD_SIZE."
        )
    rank = _number("RANK", 0)
    if rank >= size:
        raise UnheardError(f"RANK is {rank}, but WORLD_SIZE is {size}. Ranks count from 0.")
    return Launch(rank, size, _number("LOCAL_RANK", rank))


def is_one_of_several() -> bool:
    """Whether several processes were started; one that nobody numbered is taken for one alone."""
    try:
        return bool(os.environ.get("RANK")) and _number("WORLD_SIZE", 1) > 1
    except InputError:
        return False


def is_follower() -> bool:
    """Whether this is one of several processes and not the first: the first one speaks."""
    rank = os.environ.get("RANK", "").strip()
    return is_one_of_several() and rank.isdigit() and int(rank) > 0


def refuse_several(verb: str) -> None:
    """Only ``train`` shares its work among processes.

    Raises:
        InputError: this is one of several processes.
    """
    if is_one_of_several():
        hint = " It makes runs side by side by itself (--workers)." if verb == "compare" else ""
        raise InputError(
            f"torchrun has started {verb} {_number('WORLD_SIZE', 1)} times (WORLD_SIZE). Start it "
            f"without torchrun: only train divides its work among processes.{hint}"
        )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise InputError(f"The variable {name} must be a whole number, got {text!r:.60}.")
    return int(text)
