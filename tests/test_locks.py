"""One command at a time in a folder, and nothing left of those that were killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from normlab.errors import InputError
from normlab.files import write_text
from normlab.leftovers import holds_nothing, mark, sweep_temporary, temporary_prefix
from normlab.locks import HOLDER, LOCK, alone_in


def _dead_mark() -> str:
    """Of a process that has ended."""
    code = "from normlab.leftovers import mark; print(mark())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout[:-1]


def test_a_second_one_waits_and_says_for_what(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        def say(text: str) -> None:
            said.append(text)
            waits.set()

        with alone_in(tmp_path, say):
            order.append("second")

    thread = threading.Thread(target=second)
    with alone_in(tmp_path):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    (one,) = said
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))} is in use by process {os.getpid()} since \d\d:\d\d on "
        r"\d{4}-\d\d-\d\d\. Waiting until that has ended\.",
        one,
    )
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_holds_no_lock_and_its_leftovers_go(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from normlab.files import write_with\n"
        "from normlab.locks import alone_in\n"
        "with alone_in(Path(sys.argv[1])):\n"
        "    write_with(Path(sys.argv[1]) / 'runs' / 'run.json', lambda aside: os._exit(7))\n"
    )
    out = tmp_path / "study"
    assert subprocess.run([sys.executable, "-c", code, str(out)]).returncode == 7
    assert {path.name for path in out.iterdir()} == {LOCK, HOLDER, "runs"}
    (left,) = (out / "runs").iterdir()
    assert left.name.endswith(".part")
    with alone_in(out, lambda text: pytest.fail(text)):
        assert not left.exists()


def test_what_living_processes_write_aside_stays(tmp_path: Path) -> None:
    dead = _dead_mark()
    ours, theirs, foreign = (
        tmp_path / f".run.json.{whose}.abcd1234.part"
        for whose in (mark(), dead, f"000000-{dead.partition('-')[2]}")
    )
    for path in (ours, theirs, foreign):
        path.write_text("half")
    copied = tmp_path / f".copy-{dead}.abcd1234"
    copied.mkdir()
    assert not holds_nothing(tmp_path)
    copied.rmdir()
    assert holds_nothing(tmp_path)
    copied.mkdir()
    (tmp_path / "thesis.part").write_text("mine")
    with alone_in(tmp_path):
        pass
    # A process of another computer may still be there.
    assert set(tmp_path.iterdir()) == {ours, foreign, tmp_path / "thesis.part"}
    os.utime(foreign, (0, 0))
    with alone_in(tmp_path):
        pass
    assert not foreign.exists()


def test_a_file_that_is_written_again_takes_the_place_of_what_was_left(tmp_path: Path) -> None:
    (tmp_path / f".out.csv.{_dead_mark()}.abcd1234.part").write_text("half")
    write_text(tmp_path / "out.csv", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_temporary_folders_of_dead_processes_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    theirs, ours, other = (
        tmp_path / f"normlab-{_dead_mark()}.abcd1234",
        tmp_path / f"{temporary_prefix()}abcd1234",
        tmp_path / "normlab-0",
    )
    for folder in (theirs, ours, other):
        (folder / "below").mkdir(parents=True)
    sweep_temporary()
    assert set(tmp_path.iterdir()) == {ours, other}


def test_a_folder_that_was_only_made_to_be_locked_goes_again(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="another question"),
        alone_in(tmp_path / "studies" / "new"),
    ):
        raise InputError("another question")
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path / "gallery", beside=True):
        assert not (tmp_path / "gallery").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    study = tmp_path / "study"
    study.mkdir()
    (study / HOLDER).symlink_to(victim)
    with alone_in(study):
        pass
    (study / LOCK).symlink_to(victim)
    with (
        pytest.raises(InputError, match=r"study cannot be locked \(.*Choose another folder"),
        alone_in(study),
    ):
        pass
    assert victim.read_text() == "precious"


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with (
        pytest.raises(InputError, match=r"cannot be locked \(No locks available\), which keeps"),
        alone_in(tmp_path / "study"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
