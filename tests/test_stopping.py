"""Ctrl-C and SIGTERM: the first lets a step end, the second ends at once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from normlab import stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_where_nothing_is_to_be_saved(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(stopping.Stopped) as stopped, stopping.handled():
        signal.raise_signal(number)
    assert stopped.value.status == 128 + number
    assert signal.getsignal(number) is before
    assert stopping.requested() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step(number: signal.Signals) -> None:
    done: list[object] = []

    def work() -> None:
        with stopping.handled(), stopping.deferred():
            with stopping.deferred():
                signal.raise_signal(number)
                done.append(stopping.requested())
            done.append("saved")

    with pytest.raises(stopping.Stopped) as stopped:
        work()
    assert done == [number, "saved"]
    assert stopped.value.signal == number


@pytest.mark.parametrize(
    ("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")]
)
def test_a_second_signal_ends_at_once_and_what_belongs_to_it(first: str, second: str) -> None:
    code = (
        "import signal\n"
        "from normlab import stopping\n"
        "with stopping.handled(), stopping.deferred():\n"
        "    with stopping.at_once(lambda: print('ended too', flush=True)):\n"
        f"        signal.raise_signal(signal.{first})\n"
        f"        signal.raise_signal(signal.{second})\n"
        "        print('never', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (128 + signal.Signals[second], "ended too\n")


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.handled():
            signal.raise_signal(signal.SIGINT)
            assert stopping.requested() is None
    finally:
        signal.signal(signal.SIGINT, before)
