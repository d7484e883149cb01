"""Whole commands: what a person types, what is answered, what is left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normlab.cli import main
from normlab.console.progress import recipe
from normlab.errors import InputError
from normlab.files import write_bytes, write_text, write_with
from normlab.norms import CATALOG, FAMILIES
from normlab.runs import RunConfig
from normlab.studies import Request, presets

ROOT = Path(__file__).parents[2]
BIRDS = ROOT.parent / "shared/data/birds64"
FASHION = Path("/usr/share/datasets/fashion-mnist")
SMALL = ["--n", "1", "--epochs", "1", "--seeds", "1", "--limit-per-class", "10"]
QUICK = [*SMALL, "--workers", "1"]


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "normlab", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As :func:`_run`, in this process."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        command = list(map(str, arguments))
        status = main(command)
        return subprocess.CompletedProcess(command, status, *capsys.readouterr())

    return run


Typed = Callable[..., subprocess.CompletedProcess[str]]


def test_compare_from_photos_to_page(photos: Path, tmp_path: Path, typed: Typed) -> None:
    out = tmp_path / "study"
    command = ["compare", "--data", photos, "--arms", "bn,none", *SMALL, "--out", out]
    done = _run(*command)
    assert done.returncode == 0, done.stderr
    for expected in ("2 classes", "2 to run (2 arms, 1 seed)", "SGD momentum 0.9", "report.html"):
        assert expected in done.stdout
    assert re.search(r"^bn +\d+\.\d ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout  # no colours or bars where the output is no terminal
    again = typed(*command)
    assert again.returncode == 0
    assert "nothing was run again" in again.stdout
    run = out / "runs/none/seed-0"
    inspected = typed("inspect", run)
    assert "All 7 sites carry none" in inspected.stdout
    assert "NoNorm2d(16)" in inspected.stdout
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    reported = typed("report", out)
    assert reported.returncode == 0, reported.stderr
    assert (out / "report.html").read_bytes() == page


def test_dry_run_says_what_and_how_long_and_writes_nothing(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = typed("compare", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "42 to run (7 arms, 6 seeds)" in done.stdout
    assert re.search(r"Time +about \d", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_train_makes_one_run(tmp_path: Path) -> None:
    done = _run(
        "train", "--norm", "gn:groups=4", "--seed", "3", "--n", "1", "--epochs", "2",
        "--limit-per-class", "10", "--optimizer", "adamw", "--lr", "0.001", "--crop-pad", "1",
        "--step-at", "0.3", "--step-at", "0.6", "--schedule", "step", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout
    config = json.loads((tmp_path / "run/run.json").read_text())["config"]
    assert (config["norm"], config["seed"], config["optimizer"]) == ("gn:groups=4", 3, "adamw")
    assert config["step_at"] == [0.3, 0.6]


def test_a_run_is_resumed_on_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "--n", "1", "--epochs", "1", "--limit-per-class", "2"]
    assert main(command) == 0
    (made,) = (tmp_path / "runs").iterdir()
    earlier = made.rename(made.with_name(f"2020-01-31{made.name[10:]}"))
    before = (earlier / "weights.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert list((tmp_path / "runs").iterdir()) == [earlier]
    assert (earlier / "weights.safetensors").stat().st_mtime_ns == before
    assert main([*command, "--seed", "1"]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_model_is_looked_at_used_and_handed_on(
    photos: Path, tmp_path: Path, typed: Typed
) -> None:
    study = tmp_path / "study"
    done = typed("compare", "--data", photos, "--arms", "bn,ln", *QUICK, "--out", study)
    assert done.returncode == 0, done.stderr
    run = study / "runs/bn/seed-0"
    card = typed("inspect", run)
    assert "normlab train --data" in card.stdout
    assert re.search(r"Accuracy +train \d+\.\d\d %, val \d+\.\d\d %, test", card.stdout)

    looked = typed("explain", run, "--classes", "Wren", "--right", "1", "--wrong", "1")
    assert looked.returncode == 0, looked.stderr
    chosen = json.loads((run / "explain/chosen.json").read_text())
    assert {image["class"] for image in chosen["images"]} == {"Wren"}
    both = ["--arms", "ln;bn", "--right", "1", "--out", tmp_path / "both"]
    together = typed("explain", study, *both)
    assert together.returncode == 0, together.stderr

    (photos / "Wren/torn.png").write_bytes((photos / "Wren/00.png").read_bytes()[:200])
    first = sorted((photos / "Robin").iterdir())[3]
    answers = tmp_path / "answers.csv"
    named = typed("predict", run, first, photos / "Wren", "--output", answers)
    assert named.returncode == 3
    assert "torn.png is damaged or cut short" in named.stderr
    rows = answers.read_text().splitlines()
    assert rows[0] == "path,class,probability"
    assert len(rows) == 1 + 1 + 24
    assert rows[1].startswith(f"{first},")

    exported = typed("export", run, "--onnx", "--images", first)
    assert exported.returncode == 0, exported.stderr
    assert (run / "model.onnx").stat().st_size > 100_000
    assert str(run / "model.onnx") in exported.stdout


@pytest.mark.parametrize(
    ("preset", "arms", "runs"),
    [
        (["sanity"], "torch_bn, bn", 6),
        (["batch-size"], "bn,batch_size=8, bn,batch_size=32, bn,batch_size=128, gn,bat", 18),
        (["batch-size", "--batch-size", "1,2"], "bn,batch_size=1, bn,batch_size=2, gn,bat", 12),
        (["batch-size", "--batch-size", "8", "--arms", "ln"], "ln,batch_size=8", 3),
        (["learning-rate"], "torch_bn,lr=0.0001, torch_bn,lr=0.001", 6),
        (["learning-rate", "--lr", "0.1,0.01", "--arms", "bn"], "bn,lr=0.1, bn,lr=0.01", 6),
        (["depth"], "bn,n=1, bn,n=2, bn,n=3, bn,n=5", 12),
        (["all-norms"], "torch_bn, bn, in, bin, ln, gn, none", 3 * len(CATALOG)),
        (["all-norms", "--arms", "gn:groups=4,all"], "gn:groups=4, torch_bn, bn, in, bin, ln, gn",
         3 * len(CATALOG) + 3),
        (["--patience", "none,2", "--arms", "bn"], "bn,patience=None, bn,patience=2", 12),
        (["--budget", "epochs,updates", "--arms", "bn"], "bn,budget=epochs, bn,budget=upda", 12),
    ],
)  # fmt: skip
def test_presets_and_axes(
    preset: list[str], arms: str, runs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "s"), "--limit-per-class", "8", "--dry-run"]
    assert main(["compare", *preset, *out]) == 0
    said = capsys.readouterr().out
    assert f"{runs} to run" in said
    assert f"Arms     {arms}" in said
    assert not (tmp_path / "s").exists()


def test_an_axis_may_hold_none_and_the_command_says_it(tmp_path: Path, typed: Typed) -> None:
    out = tmp_path / "s"
    done = typed("compare", "--patience", "none,1", "--arms", "bn", *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "runs/bn,patience=None/seed-0/run.json").is_file()
    again = typed("compare", "--patience", "1", "--arms", "bn", *QUICK, "--out", out)
    assert again.returncode == 2
    assert "another question" in again.stderr
    assert Request.of(patience=[None, 2]).command() == "normlab compare --patience none,2"
    assert Request.of(batch_size=[8]).command() == "normlab compare --batch-size 8,"
    assert Request.of("depth", split="a b.json").command("x") == (
        "normlab compare depth --split 'a b.json' --out x"
    )


def test_every_preset_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    said = capsys.readouterr().out
    for name in presets():
        assert name in said


def test_the_recipe_names_every_setting_that_is_not_the_default() -> None:
    usual = RunConfig(weight_decay=1e-4).to_dict()
    changed: dict[str, Any] = {
        "epochs": 9, "batch_size": 9, "accumulate": 2, "budget": "updates", "lr": 1000.0,
        "lr_scaling": "sqrt", "optimizer": "adamw", "momentum": 0.5, "nesterov": True,
        "weight_decay": 0.5, "decay_all": True, "schedule": "constant", "warmup": 0.3,
        "patience": 4, "label_smoothing": 0.3, "balance": "sampling", "clip_norm": 0.25,
        "precision": "bfloat16", "crop_pad": 3, "flip": True, "kernels": "compiled",
        "weights": "w.pth", "freeze_to": "conv", "head_lr": 0.5,
    }  # fmt: skip
    # Of what depends on another setting with that setting; the rest is not of the training.
    depend = {"step_at": [0.25], "step_factor": 0.4, "reference_batch": 16, "start": "fresh"}
    others = {"norm", "seed", "n", "shortcut", "record_features", "device", "threads"}
    others |= {"processes", "statistics"}  # of a run that is no part of a comparison
    others |= {"model", "weights_least"}
    assert {*changed, *depend, *others} == set(usual)
    for name, value in changed.items():
        assert recipe({**usual, name: value}) != recipe(usual), name
    stated = {**usual, "schedule": "step", "lr_scaling": "linear", "weights": "w.pth"}
    for name, value in depend.items():
        assert recipe({**stated, name: value}) != recipe(stated), name
    said = recipe({**usual, **changed})
    assert "learning rate 1000," in said
    assert "classes balanced by sampling" in said
    assert "normalization parameters and biases decay too" in said


def test_norms_prints_the_catalogue_and_the_docs_are_its_print(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["norms"]) == 0
    text = capsys.readouterr().out
    for name in CATALOG:
        assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)
    assert [text.index(title) for title in FAMILIES.values() if title in text] == sorted(
        text.index(title) for title in FAMILIES.values() if title in text
    )
    assert main(["norms", "--markdown", "--pictures", str(tmp_path)]) == 0
    assert (ROOT / "docs/norms.md").read_text() == capsys.readouterr().out, "run make docs"
    kept = ROOT / "docs/images/norms"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in kept.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == (kept / path.name).read_text(), f"{path.name}: run make docs"


def test_no_word_of_the_catalogue_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (60, 77, 78, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["norms"]) == 0
        text = capsys.readouterr().out
        assert "…" not in text, width
        assert max(map(len, text.splitlines())) <= width
        assert ("operations:" in text) == (width >= 78)


def test_a_method_is_told_with_what_it_starts_at_and_what_follows_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    for name, said in {
        "grn": "weight: one per channel, from 0",
        "fixup": "scale: one per layer, from 1",
        "switchable": "mean_weight: three per layer, from 1",
        "weight_norm": "gain: one per channel",
        "batch_renorm": "r_max: 1 at 5 %, 3 at 40 % of a run's updates",
    }.items():
        assert main(["norms", name]) == 0
        assert said in capsys.readouterr().out, name
    assert main(["norms", "gn:groups=4"]) == 2
    assert "(did you mean gn?)" in capsys.readouterr().err


def test_norms_shows_one_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["norms", "bin"]) == 0
    said = capsys.readouterr().out
    assert "y = weight · (gate · xhat_NHW + (1 − gate) · xhat_HW) + bias" in said
    assert said.count("■ □ □ □ □ □ □ □") == 4 + 1  # a channel of all images, and of one
    for text in ("clamped to [0.0, 1.0]", "Nam & Kim 2018", "running_mean", "momentum=0.1", "3C"):
        assert text in said
    assert max(map(len, said.splitlines())) <= 80
    assert main(["norms", "bin", "--markdown"]) == 0
    section = capsys.readouterr().out
    assert section in (ROOT / "docs/norms.md").read_text()
    assert section.startswith("### `bin`: Batch-instance normalization")


def test_pictures_go_where_they_can(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    there = tmp_path / "taken"
    there.write_text("")
    assert main(["norms", "--pictures", str(there)]) == 2
    assert "taken cannot be written: File exists." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--data", "nowhere"], "nowhere"),
        (["compare", "--arms", "batchnorm"], "unknown normalization 'batchnorm'"),
        (["compare", "--arms", "gm"], "did you mean"),
        (["compare", "--arms", "gn:groups=5"], "must divide the 16 channels, got 5"),
        (["compare", "--arms", "gn:group=4"], "did you mean groups"),
        (["compare", "--arms", ","], "arms is empty"),
        (["compare", "--arms", "torch.nn:Linear9"], "'torch.nn' has no 'Linear9'"),
        (["compare", "--arms", "no.such:Layer"], "cannot import 'no.such'"),
        (["compare", "norm"], "did you mean norms"),
        (["compare", "sanety"], "did you mean sanity"),
        (["compare", "missing.toml"], "missing.toml does not exist"),
        (["compare", "--epochs", "0"], "epochs must be >= 1, got 0"),
        (["compare", "--batch-size", "0"], "batch_size must be >= 1, got 0"),
        (["compare", "--epochs", "two"], "two"),
        (["compare", "--seeds", "0"], "seeds must be a whole number of at least 1, got 0"),
        (["compare", "--workers", "0"], "workers must be"),
        (["compare", "--image-size", "4"], "image_size must be a whole number of at least 8"),
        (["compare", "--limit-per-class", "0"], "limit_per_class"),
        (["compare", "--lr", "-1"], "lr must be > 0"),
        (["compare", "--device", "tpu"], "tpu"),
        (["compare", "--epoch", "3"], "--epochs"),
        (["compare", "batch-size", "--batch-size", "8,0"], "batch_size must be >= 1, got 0"),
        (["compare", "--batch-size", "8,x"], "batch_size must be a whole number, got 'x'"),
        (
            ["compare", "--batch-size", "8,16,8"],
            "batch_size has 8 more than once: 8, 16, 8. Give every value once.",
        ),
        (
            ["compare", "--arms", "all,gn:groups=4,ln"],
            "The arm ln is given more than once",
        ),
        (["compare", "--arms", "bn,gn,bn"], "The arm bn is given more than once."),
        (["compare", "--budget", "steps"], "budget must be one of epochs, updates"),
        (["compare", "--patience", "0"], "patience must be >= 1"),
        (["explain", "nowhere"], "nowhere"),
        (["predict", "nowhere", "x.jpg", "--output", "f.csv"], "nowhere"),
        (["export", "nowhere", "--onnx"], "nowhere"),
        (["export", "nowhere"], "Choose a format: --onnx."),
        (["train", "--norm", "xn"], "unknown normalization 'xn'"),
        (["report", "nowhere"], "nowhere does not contain a study"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["compair"], "compare"),
        (["train", "std"], "train takes no argument 'std'. Give the data with --data std."),
        (
            ["compare", "sanity", "dup"],
            "compare takes no further argument 'dup'. Give the data with --data dup.",
        ),
        (["inspect", "a", "b", "c"], "inspect takes no further arguments 'b' and 'c'."),
        (["norms", "batch"], "no normalization 'batch'"),
        (["norms", "frrn"], "Known are torch_bn, bn, in"),
        (["norms", "gm"], "(did you mean gn?)"),
        (["norms", "bn", "x"], "norms takes no further argument 'x'."),
    ],
)
def test_bad_input_is_one_message_with_status_2_and_leaves_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err + said.out
    assert said.err.startswith("normlab: ")
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.rstrip().endswith((".", "?"))
    assert list(tmp_path.iterdir()) == []


def test_bad_images_are_named_and_stop_the_study_unless_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "Wren/torn.png").write_bytes((photos / "Wren/00.png").read_bytes()[:200])
    (photos / "Robin/notes.png").write_text("seen in May")
    (photos / "Robin/notes.txt").write_text("seen in May")
    command = ["compare", "--data", str(photos), "--arms", "bn", "--n", "1", "--epochs", "1"]
    command += ["--seeds", "1", "--out", str(tmp_path / "s")]
    assert main(command) == 2
    said = capsys.readouterr().err
    for expected in ("Wren/torn.png", "Robin/notes.png", "--skip-bad"):
        assert expected in said
    assert not (tmp_path / "s").exists()
    assert main([*command, "--skip-bad"]) == 0
    data = json.loads((tmp_path / "s/data.json").read_text())
    assert set(data["skipped"]) == {"Wren/torn.png", "Robin/notes.png"}
    assert any("Passed over" in note and "1 .txt" in note for note in data["notes"])


def test_an_out_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        assert main(["compare", *QUICK, "--arms", "bn", "--out", str(out)]) == 2
        assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(
    not Path("/sys/kernel").is_dir(), reason="needs Linux's /sys, which is not writable"
)
def test_a_file_system_that_takes_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *QUICK, "--arms", "bn", "--out", "/sys/kernel/normlab"]) == 2
    said = capsys.readouterr().err
    assert "/sys/kernel/normlab" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_said_and_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_text(path, "old")

    def fill(aside: Path) -> None:
        aside.write_text("half of the new")
        Path("/dev/full").write_bytes(b"\0" * 65536)

    with pytest.raises(InputError, match=r"run\.json cannot be written: the disk is full"):
        write_with(path, fill)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_files_are_as_open_as_the_umask_says(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_stopping_leaves_a_study_that_goes_on(tmp_path: Path, typed: Typed) -> None:
    import signal
    import time

    out = tmp_path / "s"
    command = [
        "compare",
        "--arms",
        "bn,none",
        "--seeds",
        "1",
        "--epochs",
        "4",
        "--n",
        "1",
        "--out",
        out,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "normlab", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("runs/*/*/run.json")) and time.monotonic() < deadline:
        time.sleep(0.02)  # until the first run has begun
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to the whole group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"To resume, run: normlab {' '.join(map(str, command))}" in errors
    assert "Traceback" not in errors
    done = typed(*command, "--workers", "1")
    assert done.returncode == 0, done.stderr
    statuses = [json.loads(p.read_text())["status"] for p in out.glob("runs/*/*/run.json")]
    assert statuses == ["complete", "complete"]


def test_two_models_and_several_studies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, arms in (("one", "bn,none"), ("two", "gn")):
        assert main(["compare", "--arms", arms, *QUICK, "--out", name]) == 0
    assert "One run an arm" not in capsys.readouterr().out.split("two")[-1]
    (tmp_path / "one/report.html").unlink()
    (tmp_path / "two/report.html").unlink()
    asked, text = (tmp_path / "one/study.toml").read_bytes(), tmp_path / "one/results.md"
    assert main(["report", "one", "two", "--all-pairs", "--target", "12.5"]) == 0
    assert "accuracy of 12.5 %, which was asked of this report, after the runs" in text.read_text()
    assert (tmp_path / "one/study.toml").read_bytes() == asked  # the study states what it stated
    assert (tmp_path / "one/report.html").is_file()
    assert (tmp_path / "two/report.html").is_file()
    assert main(["report", "one", "--target", "120"]) == 2
    assert "target must be a validation accuracy in percent" in capsys.readouterr().err
    assert main(["report", "one", "three"]) == 2
    assert "three does not contain a study" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "Name the folder of a study" in capsys.readouterr().err

    runs = ["one/runs/bn/seed-0", "one/runs/none/seed-0"]
    assert main(["mcnemar", *runs]) == 0
    said = capsys.readouterr().out
    assert re.search(r"bn seed 0 and none seed 0 on \d+ test images", said)
    assert "two checkpoints, not two methods" in said
    assert main(["mcnemar", "one/runs/bn/seed-0", "nowhere"]) == 2
    assert "nowhere does not contain a run" in capsys.readouterr().err


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--data", str(FASHION), "--arms", "gn", *QUICK, "--limit-all-splits"]
    assert main([*command, "--out", str(tmp_path / "s")]) == 0
    assert "100 train" in capsys.readouterr().out


@pytest.mark.skipif(not BIRDS.is_dir(), reason="needs the birds beside the repository")
def test_birds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "--data", str(BIRDS), "--arms", "in", *QUICK, "--image-size", "16"]
    assert main([*command, "--limit-all-splits", "--out", str(tmp_path / "s")]) == 0
    assert "25 classes, 250 train" in capsys.readouterr().out


def test_a_repair_is_no_part_of_the_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def compare(*_: object, **given: object) -> None:
        asked.update(given)
        raise InputError("2 runs of study are damaged.")

    monkeypatch.setattr("normlab.workflow.compare", compare)
    words = ["compare", "--seeds", "1", "--repair"]
    monkeypatch.setattr(sys, "argv", ["normlab", *words])
    assert main(words) == 2
    assert "2 runs of study are damaged." in capsys.readouterr().err
    assert (asked["repair"], asked["call"]) == (True, "normlab compare --seeds 1")
