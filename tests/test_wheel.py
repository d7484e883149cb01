"""What is published works: the wheel in an environment of its own, without the source at hand."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed")

pytestmark = pytest.mark.xdist_group("wheel")

ROOT = Path(__file__).parents[1]
TINY = ["--n", "1", "--epochs", "1", "--seeds", "1", "--limit-per-class", "5"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [sys.executable, *build, "--quiet", "--wheel-dir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


class Installed:
    """The wheel in an environment that has its dependencies, but no checkout on its path."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=False, symlinks=True)
        self.bin = folder / "env" / "bin"
        (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
        # The dependencies of this environment. Paths in a .pth file are searched last and their own
        # .pth files are not read, so an editable install of normlab there does not count.
        places = [place for place in site.getsitepackages() if Path(place).is_dir()]
        (packages / "dependencies.pth").write_text("\n".join(places))
        install = ["-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        install += ["--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
        done = subprocess.run([sys.executable, *install], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self, command: str, *arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(self.bin / command), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/normlab").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packed == source
    suffixes = {Path(name).suffix for name in packed}
    needed = {".py", ".j2", ".toml", ".c", ".json"}
    assert {*needed, ".js", ".css", ".typed"} >= suffixes >= needed
    assert not any("test" in Path(name).parts or "cache" in Path(name).suffix for name in packed)


def test_the_installed_commands_work(installed: Installed) -> None:
    where = installed.run("python", "-c", "import normlab; print(normlab.__file__)")
    assert Path(where.strip()).is_relative_to(installed.folder)
    about = "from importlib.metadata import version; print(version('normlab'))"
    assert installed.run("normlab", "--version") == installed.run("python", "-c", about)
    assert "GroupNorm2d" in installed.run("normlab", "norms", "gn")
    study = ["compare", "--arms", "bn,gn", *TINY, "--out", "study"]
    assert "2 to run (2 arms, 1 seed)" in installed.run("normlab", *study, "--dry-run")
    assert not (installed.folder / "study").exists()
    installed.run("normlab", *study)
    page = (installed.folder / "study/report.html").read_text(encoding="utf-8")
    assert "<style>" in page
    assert "<script" in page
    assert "gn" in page
