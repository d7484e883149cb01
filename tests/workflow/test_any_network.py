"""Studies and commands on a network that is not ours."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import normlab
from normlab.cli import main
from normlab.errors import InputError
from normlab.models import load_info, load_model
from normlab.results import read_results
from normlab.workflow import Comparison, import_model

FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_chans, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 12, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))

def build(num_classes, in_chans, width=8):
    return Net(num_classes, in_chans, width)
"""
SMALL: dict[str, Any] = {"limit_per_class": 15, "epochs": 1, "seeds": 1}


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_pictures: None) -> str:
    """The name of a module with a factory, in a working folder that has a study ``s`` of it."""
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    _compare(name, arms=["as_is", "bn"], out="s")
    return name


def _compare(nets: str, **options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "model": f"{nets}:build", **options})
    assert isinstance(done, Comparison)
    return done


def test_a_study_of_a_network_says_which(nets: str) -> None:
    results = read_results("s")
    assert results.arms == ("as_is", "bn")
    first, second = (results.of_arm(arm)[0] for arm in ("as_is", "bn"))
    assert first.metric("test", "loss") == pytest.approx(second.metric("test", "loss"), rel=1e-4)
    page = (Path("s") / "report.html").read_text()
    assert f"{nets}:build" in page
    assert "residual" not in page
    question = tomllib.loads((Path("s") / "study.toml").read_text())
    assert all(f"--model {nets}:build" in command for command in question["commands"])


def test_a_study_goes_on_with_the_same_code_and_not_with_another(nets: str) -> None:
    before = read_results("s").of_arm("bn")[0].record["identity"]
    _compare(nets, arms=["as_is", "bn"], out="s", seeds=2)
    assert read_results("s").of_arm("bn")[0].record["identity"] == before
    Path(f"{nets}.py").write_text(FACTORY.replace("3, 2, 1", "3, 1, 1"))
    _compare(nets, arms=["as_is", "bn"], out="s", seeds=2)
    assert read_results("s").of_arm("bn")[0].record["identity"] != before
    assert len(list((Path("s") / "superseded").glob("*/*"))) == 4


def test_a_network_that_a_file_names_is_not_imported_unless_trusted(nets: str) -> None:
    marked = 'import pathlib\npathlib.Path("imported").touch()\n'
    Path(f"{nets}.py").write_text(marked + FACTORY)
    Path("own.toml").write_text(f'[run]\nmodel = "{nets}:build"\n[grid]\nnorm = ["bn"]\n')
    with pytest.raises(InputError, match=r"own\.toml names the network nets_.*--trust"):
        normlab.compare("own.toml", out="t", **SMALL)
    assert not Path("imported").exists()
    assert isinstance(normlab.compare("own.toml", out="t", trust=True, **SMALL), Comparison)


def test_every_command_on_a_model_of_a_network_asks_for_trust(
    nets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = "s/runs/bn/seed-0"
    for command in (
        ["inspect", run],
        ["convert", run, "--to", "gn:groups=4", "--out", "c"],
        ["recalibrate", run, "--out", "c"],
        ["freeze", run, "--out", "c"],
        ["fold", run, "--out", "c"],
        ["export", run, "--onnx"],
        ["explain", run],
    ):
        assert main(command) == 2
        assert "--trust" in capsys.readouterr().err
    assert not Path("c").exists()


@pytest.mark.parametrize("what", ["convert", "recalibrate", "freeze", "fold"])
def test_a_changed_model_of_a_network_is_a_model_again(nets: str, what: str) -> None:
    run, made = "s/runs/bn/seed-0", "c"
    to = ["--to", "frozen_bn"] if what == "convert" else []
    assert main([what, run, *to, "--out", made, "--trust"]) == 0
    info = load_info(made)
    assert info.model == f"{nets}:build"
    assert info.norm == {"recalibrate": "bn", "fold": "none"}.get(what, "frozen_bn")
    x = torch.rand(3, 1, 8, 8)
    before, after = (load_model(one, trust=True) for one in (run, made))
    if what != "recalibrate":
        with torch.no_grad():
            assert torch.allclose(before(x), after(x), atol=1e-5)
    assert main(["inspect", made, "--trust"]) == 0
    with pytest.raises(InputError, match="--trust"):
        load_model(made)
    Path(f"{nets}.py").write_text(FACTORY + "\n# edited\n")
    with pytest.raises(InputError, match=f"The code of {nets}:build has changed"):
        load_model(made, trust=True)


def test_fine_tuning_says_what_the_start_lost(nets: str) -> None:
    arms, weights = ["as_is", "gn:groups=auto"], "p/runs/as_is/seed-0"
    _compare(nets, arms=["as_is"], epochs=10, lr=0.1, out="p")
    _compare(
        nets, arms=arms, weights=weights, start=["matched", "fresh"], out="f", seeds=3, lr=0.001
    )
    page, said = (Path("f") / "report.html").read_text(), (Path("f") / "results.md").read_text()
    assert "What the start lost" in page
    section = said.split("What the start lost")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    cells = {row.split("`")[1]: [c.strip() for c in row.split("|")] for row in rows}
    record = json.loads(Path(f"{weights}/run.json").read_text())
    known = f"{100 * record['metrics']['val']['accuracy']:.1f}"
    assert {row[2] for row in cells.values()} == {known}
    starts = {name: float(row[3].split()[0]) for name, row in cells.items()}
    runs = read_results("f").of_arm("gn:groups=auto,start=matched")
    expected = [100 * run.record["start"]["val"]["accuracy"] for run in runs]
    assert starts["gn:groups=auto,start=matched"] == pytest.approx(sum(expected) / 3, abs=0.05)


def test_weights_that_do_not_fit_stop_a_study_before_it_starts(nets: str) -> None:
    torch.save({"other.weight": torch.ones(3)}, "w.pth")
    with pytest.raises(InputError, match=r"0 % of the parameters.*other\.weight.*--weights-least"):
        _compare(nets, arms=["as_is"], weights="w.pth", out="f")
    assert not Path("f").exists()
    with pytest.raises(InputError, match=r"nothing\.pth does not exist"):
        _compare(nets, arms=["as_is"], weights="nothing.pth", out="f")
    with pytest.raises(InputError, match="cannot stand at"):
        _compare(nets, arms=["gn:groups=5"], weights="s/runs/as_is/seed-0", out="f")


def test_the_sanity_check_is_of_the_network_too(nets: str) -> None:
    done = normlab.compare("sanity", model=f"{nets}:build", out="y", **SMALL)
    assert isinstance(done, Comparison)
    found = json.loads(Path("y/checks/same-function/bn.json").read_text())
    assert not found.get("mismatch")
    assert max(one["difference"] for one in found["largest"].values()) < 1e-8


def test_an_imported_network_is_a_model_for_every_command(
    nets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _compare(nets, arms=["as_is"], epochs=10, lr=0.1, out="p")
    run = "p/runs/as_is/seed-0"
    torch.save({"state_dict": load_model(run, trust=True).state_dict()}, "w.pth")
    assert main(["import", f"{nets}:build", "--weights", "w.pth", "--out", "m"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "100 % of the parameters start from w.pth" in said
    info = load_info("m")
    assert (info.norm, info.model) == ("as_is", f"{nets}:build")
    # On all validation images, of which the run had a part.
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_model(run, trust=True)(x), load_model("m", trust=True)(x))
    assert main(["inspect", "m", "--trust"]) == 0
    assert (
        main(["convert", "m", "--to", "frozen_bn", "--out", "c", "--trust", "--data", "digits"])
        == 0
    )
    assert "Exact in evaluation" in capsys.readouterr().out
    done = _compare(nets, arms=["as_is", "frozen_bn"], weights="m", out="f")
    starts = [run.record["start"] for run in done.results.runs]
    assert len({start["val"]["accuracy"] for start in starts}) == 1
    with pytest.raises(InputError, match="m exists already"):
        import_model(f"{nets}:build", "w.pth", {"source": "digits"}, "m")


def test_what_cannot_be_imported_is_said_and_nothing_is_written(nets: str) -> None:
    torch.save(load_model("s/runs/bn/seed-0", trust=True).state_dict(), "w.pth")
    with pytest.raises(InputError, match="what normlab train writes"):
        import_model("resnet6n2", "w.pth", {"source": "digits"}, "m")
    small = {name: tensor[:4] for name, tensor in torch.load("w.pth").items() if "fc" in name}
    torch.save({**torch.load("w.pth"), **small}, "w4.pth")
    with pytest.raises(InputError, match=r"classifier fc of w4\.pth is not for the 10 classes"):
        import_model(f"{nets}:build", "w4.pth", {"source": "digits"}, "m")
    assert not Path("m").exists()


def test_a_missing_file_of_a_seed_stops_a_study_before_it_starts(nets: str) -> None:
    torch.save(load_model("s/runs/as_is/seed-0", trust=True).state_dict(), "w-0.pth")
    for dry in (True, False):
        with pytest.raises(InputError, match=r"w-1\.pth does not exist"):
            _dry(nets, arms=["as_is"], weights="w-{seed}.pth", out="f", seeds=2, dry_run=dry)
    assert not Path("f").exists()
    # All seeds have the same content, and so have other places.
    for name in ("w-1.pth", "moved.pth"):
        Path(name).write_bytes(Path("w-0.pth").read_bytes())
    _compare(nets, arms=["as_is"], weights="w-{seed}.pth", out="f", seeds=2)
    before = [run.record["identity"] for run in read_results("f").runs]
    _compare(nets, arms=["as_is"], weights="moved.pth", out="f", seeds=2)
    assert [run.record["identity"] for run in read_results("f").runs] == before


def test_other_weights_are_not_called_other_code(nets: str, capsys: Any) -> None:
    run = ["compare", "--model", f"{nets}:build", "--arms", "as_is", "--weights", "w.pth"]
    run += ["--seeds", "1", "--epochs", "1", "--limit-per-class", "15", "--out", "f"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = load_model("s/runs/as_is/seed-0", trust=True).state_dict()
        state["fc.bias"] = torch.rand(10)
        torch.save(state, "w.pth")
        if seed:
            capsys.readouterr()
            assert main([*run, "--dry-run"]) == 0
            assert "The weights that runs start from of as_is changed" in capsys.readouterr().out
        assert main(run) == 0
    assert "The weights that runs start from of as_is changed" in capsys.readouterr().out


def test_a_conversion_is_told_in_the_card(nets: str, capsys: Any) -> None:
    assert main(["convert", "s/runs/bn/seed-0", "--to", "frozen_bn", "--out", "c", "--trust"]) == 0
    assert main(["inspect", "c", "--trust"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Converted from bn to frozen_bn. Exact in evaluation." in said
    assert "weights of SHA-256" in said
    assert "None" not in said
    # Where nothing has to be matched, no images are asked for.
    assert main(["convert", "c", "--to", "bn", "--out", "d", "--trust"]) == 0
    assert main(["convert", "c", "--to", "gn:groups=4", "--out", "e", "--trust"]) == 2
    assert "--data" in capsys.readouterr().err


def _dry(nets: str, **options: Any) -> object:
    return normlab.compare(**{**SMALL, "model": f"{nets}:build", **options})
