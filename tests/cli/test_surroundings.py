"""Commands in the surroundings that people have: no home, no UTF-8, no reader, a folder to keep
clean."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import normlab
from normlab.cli import main
from normlab.errors import InputError
from normlab.places import cache_folder

SOURCE = Path(normlab.__file__).parents[1]
TINY = ("--n", "1", "--epochs", "1", "--seeds", "1", "--arms", "bn,none")
_COMMANDS = """
import sys
from normlab.cli import main
data, out = sys.argv[1:3]
run = f"{out}/study/runs/bn/seed-0"
for command in (
    ["compare", "--data", data, *sys.argv[3:], "--out", f"{out}/study"],
    ["inspect", run],
    ["explain", run, "--right", "1", "--wrong", "0", "--classes", "Robin"],
    ["predict", run, data, "--output", f"{out}/answers.csv"],
    ["check-data", data, "--out", f"{out}/check", "--write-split", f"{out}/split.json"],
    EXPORT
    ["norms"],
    ["compare", "--help"],
):
    status = main(command)
    assert status == 0, (command, status)
"""
_EXPORT = _COMMANDS.replace("EXPORT", '["export", run, "--onnx"],')
_NO_EXPORT = _COMMANDS.replace("EXPORT", "")
_UNKNOWN_USER = """
import pwd
def unknown(user):
    raise KeyError(f"getpwuid(): uid not found: {user}")
pwd.getpwuid = unknown
"""


def _python(
    script: str, *arguments: object, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """In an environment that has nothing but what is given."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
    )


def test_nothing_is_written_but_what_was_asked_for(photos: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "temporary", "here", "asked")}
    for place in places.values():
        place.mkdir()
    done = _python(
        _EXPORT,
        photos,
        places["asked"],
        *TINY,
        "--workers",
        2,
        cwd=places["here"],
        HOME=str(places["home"]),
        TMPDIR=str(places["temporary"]),
    )
    assert done.returncode == 0, done.stderr.decode()
    cache = places["home"] / ".cache" / "normlab"
    assert (cache / "images").is_dir()
    strange = [
        path
        for name in ("home", "temporary", "here")
        for path in places[name].rglob("*")
        if cache not in (path, *path.parents) and path != cache.parent
    ]
    assert strange == []


def test_no_home_an_unknown_user_and_ascii_alone(photos: Path, tmp_path: Path) -> None:
    for name in ("here", "asked", "temporary"):
        (tmp_path / name).mkdir()
    ascii_alone = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    done = _python(
        _UNKNOWN_USER + _NO_EXPORT,
        photos,
        tmp_path / "asked",
        *TINY,
        "--workers",
        1,
        cwd=tmp_path / "here",
        **ascii_alone,
    )
    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode("ascii")
    assert "+-" in shown
    assert "\\x" not in shown
    assert "\\u" not in shown
    page = (tmp_path / "asked/study/report.html").read_bytes().decode("utf-8")
    assert "±" in page
    (cache,) = (tmp_path / "temporary").iterdir()
    assert cache.name == f"normlab-{os.getuid()}"
    assert cache.stat().st_mode & 0o077 == 0
    (photos / "Robin").rename(photos / "Rotkehlchen, männlich")
    refused = _python(
        "import sys; from normlab.cli import main; sys.exit(main(sys.argv[1:]))",
        "compare",
        "--dry-run",
        "--data",
        photos,
        cwd=tmp_path / "here",
        **ascii_alone,
    )
    assert refused.returncode == 2
    assert b"set the variable PYTHONUTF8=1" in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_a_temporary_folder_of_someone_else_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(name: str) -> str:
        raise RuntimeError("no home")

    monkeypatch.delenv("NORMLAB_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"normlab-{os.getuid()}"
    assert cache_folder("images") == place / "images"
    place.chmod(0o777)
    with pytest.raises(InputError, match="NORMLAB_CACHE"):
        cache_folder("images")
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(InputError, match="NORMLAB_CACHE"):
        cache_folder("images")


@pytest.fixture
def no_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output is a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        yield


@pytest.mark.usefixtures("no_reader")
def test_a_study_goes_on_when_no_one_reads(photos: Path, tmp_path: Path) -> None:
    command = ["compare", "--data", str(photos), *TINY, "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "study")]) == 0
    assert (tmp_path / "study/report.html").is_file()
    assert main(["norms"]) == 0
    assert main(["--help"]) == 0


def test_output_that_is_lost_for_another_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["norms"]) == 3
    assert "not all of its output was shown: No space left on device." in capsys.readouterr().err


def test_closed_outputs_do_not_become_our_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = (
        "import sys; from normlab.cli import main; status = main(sys.argv[1:]); "
        "import os; os.write(1, b'from a library'); os.write(2, b'too'); sys.exit(status)"
    )
    command = ["train", "--n", "1", "--epochs", "1", "--limit-per-class", "2", "--out", run]
    line = shlex.join([sys.executable, "-c", script, *map(str, command)])
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(["sh", "-c", f"{line} >&- 2>&- <&-"], cwd=tmp_path, env=environment)
    assert done.returncode == 0
    assert json.loads((run / "run.json").read_text())["status"] == "complete"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"from a library" not in path.read_bytes()


def test_rows_printed_to_standard_output_stay_alone(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(photos), "--n", "1", "--epochs", "1"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    capfd.readouterr()
    asked = ["predict", str(tmp_path / "run"), str(photos / "Wren"), "--output", "/dev/stdout"]
    assert main(asked) == 0
    said = capfd.readouterr()
    assert said.out.splitlines()[0] == "path,class,probability"
    assert len(said.out.splitlines()) == 25
    assert "24 rows in /dev/stdout" in said.err


_ODD = ("two\nlines", "\x1b[31mred, \t\x07|`\\_$&%#{}~^<b>")


def test_names_of_any_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, tint in zip(_ODD, (200, 60), strict=True):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 40, (12, 12, 3)) + np.array([tint, 90, 120])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}\n\r.png")
    data, out = str(tmp_path / "photos"), tmp_path / "study"
    run = str(out / "runs/bn/seed-0")
    for command in (
        ["compare", "--data", data, *TINY, "--workers", "1", "--out", str(out)],
        ["explain", run, "--classes", f"{_ODD[1]},{_ODD[0]}", "--right", "1", "--wrong", "1"],
        ["explain", run, "--classes", _ODD[1], "--classes", _ODD[0], "--out", f"{out}/again"],
        ["predict", run, data, "--output", str(tmp_path / "p.csv"), "--probabilities"],
        ["check-data", data, "--out", str(tmp_path / "check")],
        ["predict", run, data, f"{data}/gone\x1b.png", "--output", str(tmp_path / "q.csv")],
    ):
        status = main(command)
        said = capsys.readouterr()
        assert status == (3 if "gone\x1b.png" in command[3] else 0), said.err
        assert "\x1b" not in said.out + said.err
    assert "gone\\x1b.png does not exist.\n" in said.err
    for page in (
        out / "report.html",
        Path(run, "explain/index.html"),
        tmp_path / "check/index.html",
    ):
        assert "\x1b" not in page.read_text(encoding="utf-8")
    assert "\x1b" not in (out / "results.md").read_text(encoding="utf-8")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    found = sorted(path for path in map(str, (tmp_path / "photos").rglob("*.png")))
    assert sorted(row["path"] for row in rows) == found
    assert {row["class"] for row in rows} <= set(_ODD)
    assert f"probability of {_ODD[0]}" in rows[0]
