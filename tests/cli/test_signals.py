"""Signals end every command with a status and a word, never with a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from normlab.cli import main
from normlab.errors import InputError

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """As from a terminal, also where the tests themselves run under nohup or in the background."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_hangup_that_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    import normlab.workflow

    def going_on(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGHUP)
        raise InputError("it went on")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(normlab.workflow, "report", going_on)
    assert main(["report", "study"]) == 2


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("job", "words", "how"),
    [
        ("compare", ["compare", "--arms", "bn,gn:groups=4", "--title", "a b"], "To resume"),
        ("train_one", ["train", "--norm", "bn"], "To resume"),
        ("report", ["report", "study"], "To start again"),
        ("explain", ["explain", "run"], "To start again"),
        ("predict", ["predict", "run", "a.png", "--output", "o.csv"], "To start again"),
        ("check_data", ["check-data", "photos"], "To start again"),
        ("export", ["export", "run", "--onnx"], "To start again"),
    ],
)
def test_a_signal_ends_a_command(
    job: str,
    words: list[str],
    how: str,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import normlab.workflow

    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(number)
        pytest.fail("it went on")

    before = signal.getsignal(number)
    monkeypatch.setattr(normlab.workflow, job, interrupted)
    assert main(words) == 128 + number
    assert signal.getsignal(number) is before
    shown = " ".join(f"'{word}'" if " " in word else word for word in words)
    assert capsys.readouterr().err == f"normlab: Stopped. {how}, run: normlab {shown}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text(
        f"import signal; signal.raise_signal({int(number)}); print('it went on')"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from normlab.__main__ import main; sys.exit(main())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (128 + number, "")
    assert ended.stderr == "normlab: Stopped.\n"


def test_a_wait_for_a_folder_can_be_ended(tmp_path: Path) -> None:
    from normlab.locks import alone_in

    with alone_in(tmp_path):
        process = subprocess.Popen(
            [sys.executable, "-m", "normlab", "compare", "--arms", "bn", "--out", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = ""
        end = time.monotonic() + 60
        while "is in use by process" not in said and time.monotonic() < end:
            said = process.stdout.readline()
        assert f"process {os.getpid()} since" in said
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.startswith("normlab: Stopped. To resume, run: normlab compare")
    assert list(tmp_path.iterdir()) == []
