"""Why a process died, in words."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_HINTS = {
    "SIGBUS": "a file that was in use was cut short, or a disk failed",
    "SIGILL": "native code uses an instruction that this processor lacks",
    "SIGSEGV": "a fault in native code",
    "SIGABRT": "native code gave up",
    "SIGFPE": "a fault in native code",
    "SIGXCPU": "a limit on processor time",
}
_FEW_STATUSES = 256


@dataclass(frozen=True)
class Death:
    """How a process ended that should not have.

    Attributes:
        how: such as "killed by SIGKILL".
        why: the likely reason, or nothing.
        blameless: whether it went with its machine, or with what gave it jobs there, which is
            hardly the job's doing.
    """

    how: str
    why: str = ""
    blameless: bool = False

    def __str__(self) -> str:
        return f"{self.how} ({self.why})" if self.why else self.how


def death(status: int | None, kills_before: int | None) -> Death:
    """From the exit status that ``subprocess`` gives: a signal's number below zero.

    Args:
        status: of the process; None if it is not known.
        kills_before: what :func:`kills_for_memory` said when the process started.
    """
    if status is None:
        return Death("ended for an unknown reason")
    if status >= 0:
        shown = status if status < _FEW_STATUSES else f"{status:#x}"
        return Death(f"ended with exit status {shown}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":
        return Death(f"killed by {name}", _memory(kills_before, kills_for_memory()))
    return Death(f"killed by {name}", _HINTS.get(name, ""))


def _memory(before: int | None, now: int | None) -> str:
    if before is None or now is None:
        return "perhaps for want of memory"
    if now > before:
        return "the system ended a process for want of memory at that time"
    return "by a person or another program: the system has ended nothing for want of memory"


def kills_for_memory() -> int | None:
    """How many processes the system has ended for want of memory; None where it does not count.

    Linux counts them, in all and by control group.
    """
    found = []
    for path in _counters():
        with suppress(OSError, ValueError):
            text = path.read_text(encoding="ascii", errors="replace")
            match = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
            if match:
                found.append(int(match[1]))
    return sum(found) if found else None


def _counters() -> list[Path]:
    groups = Path("/sys/fs/cgroup")
    found = [Path("/proc/vmstat"), groups / "memory.events", groups / "memory/memory.oom_control"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, place = line.split(":", 2)
            inside = place.lstrip("/")
            if not kinds:
                found.append(groups / inside / "memory.events")
            elif "memory" in kinds.split(","):
                found.append(groups / "memory" / inside / "memory.oom_control")
    return list(dict.fromkeys(found))
