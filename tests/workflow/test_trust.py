"""What a file from somebody else names is not imported, unless a person says that it is trusted."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import vl_convert

import normlab
from normlab import workflow
from normlab.cli import main
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.files import write_json
from normlab.foreign import origin_of
from normlab.models import ModelInfo, load_model, save_model
from normlab.runs import read_record, write_record
from normlab.runs.study_file import read_question, write_question
from normlab.studies import Request, Study, make_plan, prepare_study
from normlab.training import train

CODE = """
from pathlib import Path
import torch
with (Path(__file__).parent / "marker").open("a") as opened:
    opened.write("imported")
class Layer(torch.nn.BatchNorm2d):
    pass
"""
QUICK: dict[str, Any] = {"n": 1, "epochs": 1, "limit_per_class": 4}
WORDS = ["--n", "1", "--epochs", "1", "--limit-per-class", "4", "--seeds", "1"]
TRUST = r"evil:Layer, which is not part of normlab\. .* import evil.* add --trust .*trust=True"


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=4))


@pytest.fixture(scope="module")
def made(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one run."""
    plan = make_plan(Request.of("norms", arms="bn", seeds=1, **QUICK))
    study = prepare_study(tmp_path_factory.mktemp("made") / "study", plan, digits)
    study.write()
    ((_, config, folder),) = study.runs()
    train(config, digits, folder)
    return study.folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stranger's study, in the working folder. Its run and its arms name a module that lies
    wherever one might look for it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    shutil.copytree(made, folder)
    run = folder / "runs/bn/seed-0"
    _name(run, "evil:Layer")
    question = read_question(folder)
    question["arms"]["evil:Layer"] = {"norm": "evil:Layer"}
    write_question(folder, question)
    for place in (tmp_path, folder, run):
        (place / "evil.py").write_text(CODE)
    yield folder
    sys.modules.pop("evil", None)


def _name(run: Path, norm: str, **card: Any) -> None:
    content = json.loads((run / "model.json").read_text())
    content |= {"norm": norm, "card": {**content["card"], **card}}
    write_json(run / "model.json", content)
    write_record(run, read_record(run))  # who can change a file can change its checksum


def _markers(folder: Path) -> list[Path]:
    return [path.parent for path in sorted(folder.rglob("marker"))]


def test_nothing_that_opens_a_model_or_a_study_imports_what_it_names(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])  # as python -m has it
    run = study / "runs/bn/seed-0"
    (tmp_path / "grid.toml").write_text('[grid]\nnorm = ["bn", "evil:Layer"]\n')
    (tmp_path / "run.toml").write_text('[run]\nnorm = "evil:Layer"\n[grid]\nlr = [0.1, 0.2]\n')
    for words in (
        ["predict", run, "x.png", "--output", "x.csv"],
        ["inspect", run],
        ["export", run, "--onnx"],
        ["explain", run],
        ["explain", study],
        ["compare", *WORDS, "--arms", "bn", "--out", study],
        ["compare", "grid.toml", *WORDS, "--out", "new"],
        ["compare", "run.toml", *WORDS, "--out", "new"],
    ):
        assert main(list(map(str, words))) == 2, words
        said = " ".join(capsys.readouterr().err.split())
        assert "evil:Layer, which is not part of normlab" in said
        assert "--trust" in said
    assert main(["mcnemar", str(run), str(run)]) == 0
    for call in (
        lambda: load_model(run),
        lambda: workflow.predict(run, "x.png", "x.csv"),
        lambda: workflow.inspect(run),
        lambda: workflow.export(run),
        lambda: workflow.explain(run),
        lambda: normlab.compare(arms="bn", out=study, seeds=1, **QUICK),
        lambda: normlab.compare("grid.toml", out="new", seeds=1, **QUICK),
    ):
        with pytest.raises(InputError, match=TRUST):
            call()
    assert _markers(tmp_path) == []
    assert "evil" not in sys.modules
    assert not (tmp_path / "new").exists()


def test_a_report_imports_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing takes seconds, and is vl_convert's.
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda *_, **__: "<svg/>")
    monkeypatch.setattr(vl_convert, "svg_to_png", lambda *_, **__: b"")
    assert main(["report", str(study)]) == 0
    assert (study / "report.html").is_file()
    assert _markers(tmp_path) == []


def test_the_module_of_the_command_imports_no_package_from_the_working_folder(
    tmp_path: Path,
) -> None:
    for name in ("cyclopts", "rich", "torch"):
        (tmp_path / f"{name}.py").write_text(CODE)
    source = str(Path(normlab.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "normlab", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == normlab.__version__
    assert _markers(tmp_path) == []


def test_a_trusted_model_is_not_looked_for_in_the_working_folder(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    run = study / "runs/bn/seed-0"
    for path in (sys.path, ["", str(tmp_path), f"{tmp_path}/study/..", *sys.path]):
        monkeypatch.setattr(sys, "path", list(path))
        with pytest.raises(InputError, match=r"evil\.py is not used, .* set PYTHONPATH=\."):
            load_model(run, trust=True)
        assert sys.path == path
    assert _markers(tmp_path) == []
    # From where it should be, though there is one of that name here, first on the path.
    (tmp_path / "layers").mkdir()
    shutil.copy(tmp_path / "evil.py", tmp_path / "layers")
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path, str(tmp_path / "layers")])
    with pytest.raises(InputError, match=rf"import evil from {tmp_path}/layers/evil\.py"):
        load_model(run)
    assert len(workflow.inspect(run, trust=True).sites) == 7
    assert _markers(tmp_path) == [tmp_path / "layers"]


@pytest.mark.parametrize("by", ["origin", "PYTHONPATH", "imported"])
def test_the_working_folder_counts_where_a_person_said_so(
    by: str, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = study / "runs/bn/seed-0"
    monkeypatch.setenv("PYTHONPATH", f":{study}:" if by != "PYTHONPATH" else f"{study}:.")
    if by == "origin":
        _name(run, "evil:Layer", origin=origin_of("evil:Layer"))
    if by == "imported":
        normlab.norms.make_norm("evil:Layer", 16)
        with pytest.raises(InputError, match=TRUST):
            load_model(run)
    assert type(load_model(run, trust=True).norm0).__name__ == "Layer"
    assert _markers(tmp_path) == [tmp_path]


def test_a_part_of_a_package_is_found_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = ModelInfo(1, ("cat", "dog"), "evil.deep.part:Layer", "A", 1, 16, (0.5,), (0.25,))
    save_model(tmp_path / "run", info, replace(info, norm="bn").build(seed=0).state_dict())
    deep = tmp_path / "layers/evil/deep"
    deep.mkdir(parents=True)
    (deep / "part.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path / "layers"))
    said = rf"import evil\.deep\.part from {deep}/part\.py"
    for package in (None, deep.parent, deep):  # namespaces, then packages with code
        if package is not None:
            (package / "__init__.py").write_text(CODE)
        with pytest.raises(InputError, match=said):
            load_model(tmp_path / "run")
    assert _markers(tmp_path) == []
    assert "evil" not in sys.modules


def _dry(*words: str) -> int:
    return main(["compare", *words, "--dry-run", "--workers", "1"])


def test_what_is_typed_is_trusted_and_what_a_study_adds_is_not(
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [*WORDS, "--out", str(study)]
    assert _dry(*asked, "--arms", "bn,evil:Layer") == 0
    assert _dry(*asked, "--arms", "bn") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "has the arm evil:Layer with the layer evil:Layer" in said
    assert "/evil.py, which runs that file" in said
    del sys.modules["evil"]  # as in another process
    assert _dry(*asked, "--arms", "bn", "--trust") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "evil.py is not used" in said
    assert "Or name the arm in --arms." in said
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _dry(*asked, "--arms", "bn", "--trust") == 0


def test_commands_that_join_a_layer_of_ones_own_say_trust(
    study: Path, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def asked(arms: str, **more: Any) -> Study:
        plan = make_plan(Request.of("norms", arms=arms, seeds=1, trust=True, **QUICK, **more))
        return prepare_study(tmp_path / "two", plan, digits)

    asked("evil:Layer,bn", batch_size=[8, 16]).write()
    asked("ln", batch_size=[16]).write()
    commands = [shlex.split(line) for line in read_question(tmp_path / "two")["commands"]]
    assert [("--trust" in words) for words in commands] == [False, True]
    for words in commands:
        assert main([*words[1:], "--dry-run"]) == 0
        shutil.copytree(tmp_path / "two", tmp_path / "repeated", dirs_exist_ok=True)


def test_a_module_of_this_package_is_not_imported_for_an_arm() -> None:
    sys.modules.pop("normlab.__main__", None)
    with pytest.raises(ValueError, match="has no layer"):
        normlab.norms.make_norm("normlab.__main__:main", 16)
    assert "normlab.__main__" not in sys.modules
    assert type(normlab.norms.make_norm("normlab.norms:GroupNorm2d", 16)).__name__ == "GroupNorm2d"
