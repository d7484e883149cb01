"""Processes that do jobs: they die, and nothing else is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from normlab import stopping
from normlab.errors import InputError
from normlab.processes import (
    Death,
    DiedError,
    as_they_end,
    in_processes,
    in_turn,
    own,
    pool,
    tell,
)
from normlab.processes.causes import death, kills_for_memory

POSIX = pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as POSIX has them")


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so, and fail where it does not become so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of jobs, importable in other processes; returns a folder for their notes."""
    (tmp_path / "some_jobs.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "from normlab import stopping\n"
        "from normlab.processes import tell\n"
        "def square(number):\n"
        "    tell(number)\n"
        "    return number * number\n"
        "def where(number):\n"
        "    print('said by a job')\n"
        "    return os.getpid()\n"
        "def dies(number, folder, times):\n"
        "    with open(pathlib.Path(folder) / str(number), 'a') as opened:\n"
        "        opened.write('x')\n"
        "    if number == 1 and (pathlib.Path(folder) / '1').stat().st_size <= times:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return number\n"
        "def fails(number):\n"
        "    if number == 1: raise KeyError('one')\n"
        "    if number == 2: sys.exit(3)\n"
        "    return number\n"
        "def lasts(number, folder):\n"
        "    (pathlib.Path(folder) / f'{os.getpid()}.pid').touch()\n"
        "    while stopping.requested() is None: time.sleep(0.01)\n"
        "    (pathlib.Path(folder) / f'{os.getpid()}.saved').touch()\n"
        "    raise stopping.Stopped(stopping.requested())\n"
        "def waits(folder):\n"
        "    while not (pathlib.Path(folder) / 'go').exists(): time.sleep(0.01)\n"
        "    return 'done'\n"
        "def deaf(number, folder):\n"
        "    (pathlib.Path(folder) / f'{os.getpid()}.pid').touch()\n"
        "    time.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("some_jobs", None)


def test_jobs_are_done_side_by_side_by_processes_that_stay(jobs: Path) -> None:
    import some_jobs

    heard: list[tuple[int, object]] = []
    for workers in (1, 2):
        found = in_processes(
            some_jobs.square,
            [(n,) for n in range(7)],
            workers,
            noted=lambda *note: heard.append(note),
        )
        assert sorted((one.job, one.value) for one in found) == [(n, n * n) for n in range(7)]
        assert sorted(heard) == [(n, n) for n in range(7)]
        heard.clear()
    assert list(in_turn(some_jobs.square, [(n,) for n in range(50)], 2)) == [
        n * n for n in range(50)
    ]
    first, again = (
        set(as_they_end(some_jobs.where, [(n,) for n in range(9)], 2)) for _ in range(2)
    )
    assert again <= first
    assert os.getpid() not in first
    tell("nobody listens")


@POSIX
def test_a_job_whose_process_is_killed_is_done_again_and_the_others_go_on(jobs: Path) -> None:
    import some_jobs

    told: list[tuple[int, Death, bool]] = []
    found = in_processes(
        some_jobs.dies,
        [(n, str(jobs), 2) for n in range(4)],
        2,
        died=lambda *what: told.append(what),
    )
    assert sorted(one.get() for one in found) == [0, 1, 2, 3]
    assert [(number, said.how, again) for number, said, again in told] == [
        (1, "killed by SIGKILL", True)
    ] * 2
    assert [len((jobs / str(n)).read_text()) for n in range(4)] == [1, 3, 1, 1]


@POSIX
def test_a_job_that_kills_three_processes_is_given_up(jobs: Path) -> None:
    import some_jobs

    arguments = [(n, str(jobs), 99) for n in range(4)]
    found = {one.job: one for one in in_processes(some_jobs.dies, arguments, 2)}
    assert isinstance(found[1].error, DiedError)
    assert str(found[1].error).startswith("killed by SIGKILL three times (")
    assert {n: one.value for n, one in found.items() if n != 1} == {0: 0, 2: 2, 3: 3}
    with pytest.raises(InputError, match=r"was killed by SIGKILL three times"):
        list(as_they_end(some_jobs.dies, arguments, 2))


def test_an_error_is_an_outcome_and_an_exit_a_death(jobs: Path) -> None:
    import some_jobs

    found = {one.job: one for one in in_processes(some_jobs.fails, [(n,) for n in range(4)], 2)}
    assert isinstance(found[1].error, KeyError)
    assert "in fails" in found[1].traceback
    assert (found[0].value, found[3].value) == (0, 3)
    assert isinstance(found[2].error, DiedError)
    assert str(found[2].error) == "ended with exit status 3 three times"


def test_a_death_is_told_by_its_cause() -> None:
    counted = kills_for_memory()
    assert "want of memory" in str(death(-9, counted))
    assert str(death(-9, None)) == "killed by SIGKILL (perhaps for want of memory)"
    if counted is not None:
        assert "by a person or another program" in str(death(-9, counted))
        assert "the system ended a process for want" in str(death(-9, counted - 1))
    assert str(death(-11, None)) == "killed by SIGSEGV (a fault in native code)"
    assert "cut short" in str(death(-7, None))
    assert str(death(0xC0000005, None)) == "ended with exit status 0xc0000005"


@POSIX
def test_a_signal_lets_jobs_save_and_ends_their_processes(jobs: Path) -> None:
    import some_jobs

    def signals() -> None:
        until(lambda: len(list(jobs.glob("*.pid"))) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        arguments = [(n, str(jobs)) for n in range(3)]
        thread = Thread(target=signals)
        with stopping.handled(), stopping.deferred():
            thread.start()
            list(in_processes(some_jobs.lasts, arguments, 2, saves=True))

    with pytest.raises(stopping.Stopped) as stopped:
        work()
    assert stopped.value.status == 143
    began = {int(path.stem) for path in jobs.glob("*.pid")}
    assert {int(path.stem) for path in jobs.glob("*.saved")} == began
    assert not any(map(is_there, began))


def test_jobs_that_do_not_end_are_asked_and_waited_for_once(
    jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import some_jobs

    asked: list[int] = []
    monkeypatch.setattr(pool, "SAVE_SECONDS", 0.2)
    monkeypatch.setattr(own.Process, "ask_to_stop", lambda self, number: asked.append(self.job))

    def signals() -> None:
        until(lambda: len(list(jobs.glob("*.pid"))) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        with stopping.handled(), stopping.deferred():
            Thread(target=signals).start()
            arguments = [(n, str(jobs)) for n in range(2)]
            list(in_processes(some_jobs.deaf, arguments, 2, saves=True))

    with pytest.raises(stopping.Stopped):
        work()
    assert sorted(asked) == [0, 1]
    assert not any(is_there(int(path.stem)) for path in jobs.glob("*.pid"))


@POSIX
def test_a_job_that_is_lost_with_its_machine_is_tried_more_often(
    jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import some_jobs

    monkeypatch.setattr(own.Process, "death", lambda self: Death("lost", blameless=True))
    (_, found) = in_processes(
        some_jobs.dies, [(n, str(jobs), 4) for n in range(2)], 1, engine=own.OwnProcesses(1)
    )
    assert found.get() == 1
    monkeypatch.setattr(pool, "LOSSES", 2)
    (jobs / "1").unlink()
    (_, found) = in_processes(
        some_jobs.dies, [(n, str(jobs), 99) for n in range(2)], 1, engine=own.OwnProcesses(1)
    )
    assert str(found.error) == "lost twice"


def test_an_engine_that_can_do_nothing_says_so_once(
    jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import some_jobs

    class Troubled(own.OwnProcesses):
        def trouble(self) -> str:
            if len(warned) == 1:
                Path(jobs / "go").touch()
            return "There is nobody."

    warned: list[str] = []
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
    (found,) = in_processes(
        some_jobs.waits, [(str(jobs),)], 1, engine=Troubled(1), warned=warned.append
    )
    assert found.get() == "done"
    assert warned == ["There is nobody."]


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import some_jobs
from normlab import stopping
from normlab.processes import in_processes
with stopping.handled(), stopping.deferred():
    jobs = [(n, sys.argv[1]) for n in range(2)]
    list(in_processes(some_jobs.deaf, jobs, 2, saves=True))
"""


@POSIX
@pytest.mark.parametrize("ends", [["SIGKILL"], ["SIGINT", "SIGINT"], ["SIGTERM", "SIGINT"]])
def test_processes_end_with_their_parent_however_it_ends(jobs: Path, ends: list[str]) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(jobs)])  # no guard of __main__
    try:
        until(lambda: len(list(jobs.glob("*.pid"))) == 2)
        workers = [int(path.stem) for path in jobs.glob("*.pid")]
        assert all(map(is_there, workers))
        for name in ends:
            parent.send_signal(signal.Signals[name])
            # Two signals of one kind that are pending at once are one.
            until(lambda: "SIGINT" not in _pending(parent.pid))
        # Of two that come before Python has handled either, the lower number goes first.
        last = {128 + signal.Signals[name] for name in ends}
        assert parent.wait(timeout=30) in ({-9} if ends == ["SIGKILL"] else last)
        until(lambda: not any(map(is_there, workers)), 5.0)
    finally:
        parent.kill()
        parent.wait()


def _pending(pid: int) -> str:
    """Whether SIGINT waits to be taken by a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ""
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("ShdPnd", "SigPnd"))]
    return "SIGINT" if any(mask >> (signal.SIGINT - 1) & 1 for mask in masks) else ""
