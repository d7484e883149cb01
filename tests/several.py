"""Several processes that make a run together, as torchrun starts them: forked, so that they need
not import torch again."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 60


def variables(count: int) -> dict[str, str]:
    """What torchrun sets, but for the number of the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def in_processes(count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``work(*args)`` returns in each of so many processes; what it raised, where it did."""
    known = variables(count)
    context = multiprocessing.get_context("fork")
    found: list[Any] = []
    started = []
    for rank in range(count):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_carry_out, args=(theirs, rank, known, work, args))
        with warnings.catch_warnings():
            # Later versions of Python warn where a process with threads is forked.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        started.append((process, ours))
    for process, ours in started:
        if not ours.poll(SECONDS):
            process.kill()  # the others then notice
            found.append(RuntimeError("it neither ended nor answered"))
        else:
            try:
                found.append(ours.recv())
            except EOFError:
                found.append(RuntimeError("it was killed"))
        process.join()
    return found


def results(found: list[Any]) -> list[Any]:
    """These, where none was raised."""
    for rank, one in enumerate(found):
        if isinstance(one, BaseException):
            raise AssertionError(f"process {rank} failed") from one
    return found


def _carry_out(
    pipe: Connection,
    rank: int,
    known: Mapping[str, str],
    work: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    os.environ.update({**known, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    try:
        pipe.send(work(*args))
    except BaseException as error:
        error.add_note("".join(traceback.format_exception(error)))
        pipe.send(error)
    finally:
        pipe.close()
        os._exit(0)
