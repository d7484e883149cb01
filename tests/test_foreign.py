"""Code that is not ours: which files count, and that edited code is what runs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from normlab import foreign
from normlab.foreign import code_of, is_foreign, load


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the working folder, with modules that it imports and one that it does not."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "layers.py").write_text(
        "import math\nimport beside\nfrom . import scale\nfrom .deep import depth\n"
        "class Layer:\n    value = scale.FACTOR * beside.FACTOR * depth()\n"
    )
    (folder / "scale.py").write_text("FACTOR = 2\n")
    (folder / "deep.py").write_text(
        "def depth():\n    from parts.deeper import DEPTH\n    return DEPTH\n"
    )
    (folder / "deeper.py").write_text("import parts.layers\nDEPTH = 5\n")
    (folder / "unused.py").write_text("UNUSED = 1\n")
    (tmp_path / "beside.py").write_text("FACTOR = 3\n")
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] in ("parts", "beside")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mine:Layer", True), ("a.b:Layer:groups=4", True), ("gn", False), ("gn:groups=4", False),
        ("bn,lr=0.1", False), ("mine:", False),
    ],
)  # fmt: skip
def test_what_is_not_ours(name: str, expected: bool) -> None:
    assert is_foreign(name) is expected


def test_the_files_are_those_that_the_layer_imports(package: Path) -> None:
    found = code_of("parts.layers:Layer:a=1")
    assert set(found) == {
        "beside.py", "parts/__init__.py", "parts/deep.py", "parts/deeper.py", "parts/layers.py",
        "parts/scale.py",
    }  # fmt: skip
    assert "parts" not in sys.modules  # nothing is run to find them
    for name in found:
        path = package.parent / name
        text = path.read_text()
        path.write_text(text + "# edited\n")
        changed = code_of("parts.layers:Layer")
        assert {k for k in found if changed[k] != found[k]} == {name}
        path.write_text(text)
    (package / "unused.py").write_text("UNUSED = 2\n")
    assert code_of("parts.layers:Layer") == found


def test_line_endings_are_not_code(package: Path) -> None:
    before = code_of("parts.layers:Layer")
    path = package / "scale.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert code_of("parts.layers:Layer") == before


def test_layers_of_ours_and_of_the_catalogue_have_no_code_to_count() -> None:
    assert code_of("bn") == {}
    assert code_of("normlab.norms:BatchNorm2d") == {}


def test_an_installed_package_counts_by_its_version_and_file() -> None:
    (name,) = code_of("torch.nn:BatchNorm2d")
    assert name.startswith("torch.nn (torch 2.")


@pytest.mark.parametrize("edited", ["layers", "scale", "deeper"])
def test_edited_code_is_what_is_loaded(package: Path, edited: str) -> None:
    assert load("parts.layers").Layer.value == 2 * 3 * 5
    assert load("parts.layers") is load("parts.layers")
    path = package / f"{edited}.py"
    text = path.read_text()
    # Of the same length and within the same second, so that neither size nor time tells.
    path.write_text(text.replace("FACTOR = 2", "FACTOR = 7").replace("DEPTH = 5", "DEPTH = 7")
                    .replace("scale.FACTOR * ", "scale.FACTOR + "))  # fmt: skip
    assert load("parts.layers").Layer.value == {"layers": 17, "scale": 105, "deeper": 42}[edited]


def test_code_edited_after_somebody_else_imported_it(package: Path) -> None:
    importlib.invalidate_caches()
    sys.path.insert(0, str(package.parent))
    try:
        import parts.scale  # type: ignore[import-not-found]

        (package / "scale.py").write_text("FACTOR = 9\n")
        assert parts.scale.FACTOR == 2
        assert load("parts.layers").Layer.value == 9 * 3 * 5
    finally:
        sys.path.remove(str(package.parent))


def test_a_module_that_cannot_be_imported(package: Path) -> None:
    with pytest.raises(ImportError):
        load("parts.nothing")
    (package / "broken.py").write_text("class Layer(:\n")
    with pytest.raises(SyntaxError):
        load("parts.broken")
    assert list(code_of("parts.broken:Layer")) == ["parts/__init__.py", "parts/broken.py"]


def test_modules_imported_by_a_call_count(package: Path) -> None:
    (package / "layers.py").write_text(
        "import importlib\n"
        "SCALE = importlib.import_module('.scale', __package__)\n"
        "def late():\n    return __import__('beside').FACTOR\n"
        "class Layer:\n    value = SCALE.FACTOR * late()\n"
    )
    assert set(code_of("parts.layers:Layer")) == {
        "beside.py", "parts/__init__.py", "parts/layers.py", "parts/scale.py"
    }  # fmt: skip
    assert load("parts.layers").Layer.value == 6
    (package / "scale.py").write_text("FACTOR = 5\n")
    assert load("parts.layers").Layer.value == 15


def test_modules_of_another_folder_count(
    package: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As PYTHONPATH and editable installations have them.
    elsewhere = tmp_path_factory.mktemp("library")
    (elsewhere / "parts_base.py").write_text("FACTOR = 11\n")
    monkeypatch.syspath_prepend(elsewhere)
    (package / "scale.py").write_text("from parts_base import FACTOR\n")
    before = code_of("parts.layers:Layer")
    assert "parts_base.py" in before
    assert load("parts.layers").Layer.value == 11 * 3 * 5
    (elsewhere / "parts_base.py").write_text("FACTOR = 12\n")
    assert {k for k, v in code_of("parts.layers:Layer").items() if before[k] != v} == {
        "parts_base.py"
    }
    assert load("parts.layers").Layer.value == 12 * 3 * 5
    del sys.modules["parts_base"]


def test_a_namespace_package_has_no_file_of_its_own(package: Path) -> None:
    (package / "__init__.py").unlink()
    assert "parts/__init__.py" not in code_of("parts.layers:Layer")
    assert {"parts/layers.py", "parts/deeper.py"} <= set(code_of("parts.layers:Layer"))
    assert load("parts.layers").Layer.value == 30


def test_an_installed_package_that_is_imported_counts_by_its_version(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "scale.py").write_text("import torch, scipy.special\nFACTOR = 2\n")
    found = code_of("parts.layers:Layer")
    (name,) = [name for name in found if not name.endswith(".py")]
    assert name.startswith("scipy 1.")
    monkeypatch.setattr(foreign, "_release", lambda package: "99.0")
    assert "scipy 99.0" in code_of("parts.layers:Layer")


def test_a_compiled_module_counts_and_cannot_be_reloaded(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any extension module does: a copy of one of Python's own.
    import _bisect

    origin = getattr(_bisect, "__file__", None)
    if origin is None:
        import _ctypes_test

        origin = _ctypes_test.__file__
    copy = package / Path(origin).name
    copy.write_bytes(Path(origin).read_bytes())
    module = copy.name.partition(".")[0]
    (package / "scale.py").write_text(f"from . import {module}\nFACTOR = 2\n")
    before = code_of("parts.layers:Layer")
    assert f"parts/{copy.name}" in before
    assert load("parts.layers").Layer.value == 30
    aside = copy.with_name("aside")
    aside.write_bytes(copy.read_bytes() + b"\0")
    aside.replace(copy)  # never write into a library that is loaded
    assert code_of("parts.layers:Layer") != before
    with pytest.raises(ImportError, match="Start a new process"):
        load("parts.layers")


def test_what_is_defined_in_a_session_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a notebook's __main__: nothing would tell its code today from that of yesterday.
    session = types.ModuleType("a_session")
    session.Layer = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_session", session)
    with pytest.raises(ImportError, match=r"has no file.*mine\.py"):
        load("a_session")
    with pytest.raises(ModuleNotFoundError):
        load("a_session_that_is_not_there")


def test_finding_code_needs_no_torch() -> None:
    code = "import sys; from normlab import foreign; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert foreign.code_of("gn") == {}
