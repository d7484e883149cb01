"""Outputs go where a path leads: files are replaced whole, links stay, streams are written into."""

from __future__ import annotations

import csv
import io
import os
import pty
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from normlab.destinations import check_file, check_folder, is_standard_output
from normlab.errors import InputError
from normlab.files import csv_cell, csv_plain, csv_text, write_bytes, write_text, write_with

CONTENT = b"path,class\n" * 20_000
"""More than a pipe holds, so that the writer has to wait for the reader."""


@contextmanager
def collected(opened: Callable[[], int]) -> Iterator[bytearray]:
    """What arrives at the other end of a stream."""
    arrived = bytearray()

    def collect() -> None:
        descriptor = opened()
        while block := os.read(descriptor, 1 << 16):
            arrived.extend(block)
        os.close(descriptor)

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    yield arrived
    reader.join(timeout=30)
    assert not reader.is_alive(), "the stream was never closed"


def test_a_named_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("pipe")
    for path in (pipe, link):
        check_file(path)
        with collected(lambda: os.open(pipe, os.O_RDONLY)) as arrived:
            write_bytes(path, CONTENT)
        assert arrived == CONTENT
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_terminal_is_written_into_and_stays(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    before = Path(name).stat()
    link = tmp_path / "terminal"
    link.symlink_to(name)
    try:
        for path in (Path(name), link):
            check_file(path)
            write_text(path, "answer")
            assert os.read(master, 100) == b"answer"
        assert os.path.samestat(Path(name).stat(), before)
    finally:
        os.close(slave)
        os.close(master)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_an_open_descriptor_is_written_into(folder: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    link = tmp_path / "link"
    link.symlink_to(f"{folder}/{writing}")
    check_file(link)
    write_text(link, "into the pipe")
    assert os.read(reading, 100) == b"into the pipe"
    os.close(reading)
    with pytest.raises(InputError, match="nothing reads from the pipe"):
        write_text(link, "again")
    os.close(writing)
    with pytest.raises(InputError, match="that output is closed"):
        write_text(link, "and again")
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as opened:
        inode = log.stat().st_ino
        write_text(Path(f"{folder}/{opened.fileno()}"), "after\n")
    assert (log.read_text(), log.stat().st_ino) == ("before\nafter\n", inode)


def test_what_fails_sends_nothing_down_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_with(Path(f"/dev/fd/{writing}"), fail)
    os.close(writing)
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_a_link_stays_and_the_file_behind_it_is_replaced_whole(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.csv"
    write_text(real, "old")
    real.chmod(0o640)
    (tmp_path / "link.csv").symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to("elsewhere/real.csv")

    def fail(aside: Path) -> None:
        assert aside.parent == real.parent, "renaming works within one file system alone"
        aside.write_text("half")
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_with(tmp_path / "link.csv", fail)
    assert real.read_text() == "old"
    write_text(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert not real.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [path.name for path in real.parent.iterdir()] == ["real.csv"]


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to("results/new.csv")
    check_file(tmp_path / "link")
    assert list((tmp_path / "results").iterdir()) == []
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "results/new.csv").read_text() == "new"


def test_links_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    (tmp_path / "away").symlink_to(tmp_path / "not mounted" / "new.csv")
    (tmp_path / "round").symlink_to("round")
    for call in (check_file, lambda path: write_text(path, "x")):
        with pytest.raises(InputError, match=r"away is a symbolic link to .*does not exist"):
            call(tmp_path / "away")
        with pytest.raises(InputError, match=r"round cannot be written: .*in a circle"):
            call(tmp_path / "round")
    with pytest.raises(InputError, match=r"away/study cannot be written: .*leads nowhere"):
        check_folder(tmp_path / "away/study")
    with pytest.raises(InputError, match=r"away cannot be written: .*leads nowhere"):
        check_folder(tmp_path / "away")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away", "round"]


def test_another_name_of_a_file_keeps_the_earlier_content(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    (tmp_path / "backup").hardlink_to(tmp_path / "a")
    write_text(tmp_path / "a", "new")
    assert ((tmp_path / "a").read_text(), (tmp_path / "backup").read_text()) == ("new", "old")


def test_a_path_that_cannot_be_written_is_found_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file/below", tmp_path / "file/below/more"):
        with pytest.raises(InputError, match=r"below.* is a file, not a folder"):
            check_file(path)
        with pytest.raises(InputError, match=r"below.* is a file, not a folder"):
            check_folder(path, "--out")
    with pytest.raises(InputError, match=r"file is a file\. Choose a folder with --out"):
        check_folder(tmp_path / "file", "--out")
    with pytest.raises(InputError, match="is a folder"):
        check_file(tmp_path)
    with pytest.raises(InputError, match="the name is too long"):
        check_file(tmp_path / ("x" * 300))
    check_file(tmp_path / "new" / "deep" / "file")
    check_folder(tmp_path / "new" / "deep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "a look left something behind"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    check_file(path)
    write_text(path, "content")
    assert path.read_text() == "content"


def test_standard_output_is_known_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/fd/1")
    (tmp_path / "file").write_text("")
    assert is_standard_output(tmp_path / "link")
    assert not is_standard_output(tmp_path / "file")
    assert not is_standard_output(tmp_path / "missing")


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\\udcff' is not valid Unicode\. Choose a folder with"):
        check_folder(tmp_path / os.fsdecode(b"\xff"), "--out")
    write_text(tmp_path / "record", "in " + os.fsdecode(b"\xff"))
    assert (tmp_path / "record").read_text() == "in \\udcff"


FORMULAS = (
    "=cmd|' /C calc'!A0", "+1+cmd()", "-2+3+cmd()", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1",
    "'=1", "''=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "-", "=", "-1e5x", "\xa0=1",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_no_spreadsheet_runs_a_text_and_a_program_reads_it_back(text: str) -> None:
    written = csv_text((text, "n"), [{text: text, "n": -1.5}])
    head, row = csv.reader(io.StringIO(written, newline=""))
    for cell in (head[0], row[0]):
        assert cell.startswith("'")
        assert csv_plain(cell) == text
    assert row[1] == "-1.5"


@pytest.mark.parametrize(
    "value",
    [-1, -1.5, 1e-9, -1e-9, 0, "-1.5", "+3", "-2e-5", "cat", "a=b", "it's", "'tis", "", "a-b"],
)
def test_numbers_and_plain_names_stay_in_a_csv_file(value: Any) -> None:
    assert csv_cell(value) == value
    (row,) = csv.reader(io.StringIO(csv_text(("a",), [{"a": value}])[2:], newline="")) or [[""]]
    assert csv_plain((row or [""])[0]) == str(value)


def test_a_row_with_a_column_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no such columns"):
        csv_text(("a",), [{"b": 1}])
