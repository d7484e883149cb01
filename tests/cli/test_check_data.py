"""normlab check-data, and what compare does with its findings: whole commands on real files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console

from normlab.checks import quick_check, read_image_set
from normlab.checks.copies import groups
from normlab.cli import main
from normlab.console import print_check
from normlab.data import DataConfig
from normlab.pages.findings import Finding, Level
from normlab.workflow import DataReport
from normlab.workflow.checking import with_clean_split

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenes import scene

STUDY = [
    "--arms",
    "bn,none",
    "--seeds",
    "1",
    "--epochs",
    "1",
    "--workers",
    "1",
    "--image-size",
    "16",
]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes in three splits; one validation image and one turned test image are copies."""
    root = tmp_path_factory.mktemp("leaky") / "pictures"
    for kind in range(2):
        for number in range(12):
            split = "train" if number < 8 else "val" if number < 10 else "test"
            folder = root / split / f"kind{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            scene(number, kind).save(folder / f"{number:03d}.png")
    shutil.copy(root / "train/kind0/001.png", root / "val/kind0/copy.png")
    # The fourth scene of this kind has details enough to be known again.
    scene(4, 1).rotate(90).save(root / "test/kind1/turned.png")
    return root


def test_check_data_writes_page_record_pairs_and_split(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, split = tmp_path / "report", tmp_path / "split.json"
    asked = ["check-data", str(leaky), "--out", str(out), "--write-split", str(split)]
    assert main([*asked, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "this invalidates your numbers: Validation shares 1 image with training" in said
    assert "moved" in said
    record = json.loads((out / "data.json").read_text())
    assert record["verdict"] == "this invalidates your numbers"
    assert record["near"]["shared"][1]["likely"] == 1
    assert record["near"]["table"] == "pairs.csv"
    with (out / "pairs.csv").open(newline="") as opened:
        pairs = {row["kind"]: {row["first"], row["second"]} for row in csv.DictReader(opened)}
    assert pairs == {
        "exact bytes": {"train/kind0/001.png", "val/kind0/copy.png"},
        "near": {"test/kind1/turned.png", "train/kind1/004.png"},
    }
    page = (out / "index.html").read_text()
    assert "Validation shares 1 image with training" in page
    # The written split is clean: the same check of it finds nothing shared.
    again = tmp_path / "again"
    assert main(["check-data", str(leaky), "--split", str(split), "--out", str(again)]) == 0
    clean = json.loads((again / "data.json").read_text())
    for name in ("exact", "likely", "upper"):
        assert [shared[name] for shared in clean["near"]["shared"]] == [0, 0]


def test_a_quick_check_says_what_it_leaves_out(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))  # nothing is known of the set

    def searched(*_: object, **__: object) -> None:
        raise AssertionError("near copies were searched for")

    monkeypatch.setattr(groups, "near_copies", searched)
    out = tmp_path / "quick"
    assert main(["check-data", str(leaky), "--quick", "--out", str(out), "--workers", "1"]) == 0
    lacking = "It did not look for near copies, most shortcuts, unusual file sizes and grey"
    shared = "Validation shares 1 image with training"
    said = capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    record = json.loads((out / "data.json").read_text())
    for told in (said, page, json.dumps(record)):
        assert lacking in told
        assert shared in told
    assert "no near copies were found" not in page.casefold()
    assert record["verdict"] == "this invalidates your numbers"
    assert "exact bytes" in (out / "pairs.csv").read_text()


def test_a_sample_makes_no_claim_about_the_whole_set(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "sample"
    asked = ["check-data", str(leaky), "--limit-per-class", "7", "--out", str(out)]
    assert main([*asked, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    record = json.loads((out / "data.json").read_text())
    images = record["scope"]["images"]
    assert images < record["scope"]["files_in_source"] == 26
    scope = f"Only a sample was checked: {images} of 26 files, at most 7 training images per class"
    for told in (said, (out / "index.html").read_text(encoding="utf-8"), json.dumps(record)):
        assert scope in told
        assert "this invalidates" not in told.casefold()
    assert all(f["sentence"].startswith("In the sample: ") for f in record["findings"])
    # What a sample showed is not remembered as what is known of the set.
    found = quick_check(read_image_set(DataConfig(str(leaky))))
    assert not [finding for finding in found if finding.check == "near-duplicates"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_has_the_worst_first_on_one_screen(width: int) -> None:
    """Whatever was found, with long names and a written split."""
    long = "in a class whose name is very long indeed " * 5
    findings = [
        *(Finding("fine", Level.FINE, f"Fine {long}.") for _ in range(9)),
        *(Finding("look", Level.LOOK, f"Look {n} {long}.", "Do it.") for n in range(20)),
        Finding("shared", Level.INVALID, f"Test shares {long}."),
    ]
    made = DataReport(
        Path("checks/set"),
        Path("checks/set/index.html"),
        Path("checks/set/data.json"),
        tuple(findings),
        Path("clean.json"),
        ("All was drawn again.", long, *(f"Moved {n}." for n in range(9)), "Images: none."),
        (f"Only a sample was checked: {long}.",),
    )
    for terminal in (True, False):
        text = io.StringIO()
        print_check(Console(file=text, width=width, force_terminal=terminal, no_color=True), made)
        plain = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
        shown = plain.splitlines()
        assert shown[0].startswith("this invalidates your numbers: Test shares")
        assert sum(max(-(-len(line) // width), 1) for line in shown) <= 24
        flowing = " ".join(plain.split())
        assert "9 findings are fine." in flowing
        more = re.search(r"(\d+) more are on the page", flowing)
        assert more is not None
        told = flowing.count("look at this: ")
        assert told + int(more[1]) == 20
        assert told >= 1
        assert "Page checks/set/index.html" in flowing
        assert "Only a sample was checked" in flowing


def test_compare_says_what_the_data_shares_and_a_clean_split_repairs_it(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped, clean = tmp_path / "shipped", tmp_path / "clean"
    assert main(["compare", "--data", str(leaky), "--out", str(shipped), *STUDY]) == 0
    shared = "Validation shares 1 image with training"
    assert shared in capsys.readouterr().out
    assert shared in (shipped / "results.md").read_text()
    assert shared in (shipped / "report.html").read_text()
    assert shared in json.dumps(json.loads((shipped / "data.json").read_text())["findings"])
    asked = ["compare", "--data", str(leaky), "--out", str(clean), "--clean-split", *STUDY]
    assert main(asked) == 0
    assert shared not in (clean / "results.md").read_text()
    assert (clean / "split.json").is_file()
    data = json.loads((clean / "data.json").read_text())
    assert sum(data["images"].values()) == 26
    # The copy in the study's folder asks the same question.
    capsys.readouterr()
    asked[-len(STUDY) - 1 : -len(STUDY)] = ["--split", str(clean / "split.json")]
    assert main(asked) == 0
    assert "nothing was run again" in capsys.readouterr().out
    # The cache may be deleted: the study has the split.
    shutil.rmtree(Path(os.environ["NORMLAB_CACHE"]) / "splits")
    asked = ["explain", str(clean / "runs/bn/seed-0"), "--right", "1", "--wrong", "0"]
    assert main(asked) == 0


def test_the_clean_split_is_the_same_at_every_image_size(leaky: Path) -> None:
    own = with_clean_split(DataConfig(source=str(leaky)))
    small = with_clean_split(DataConfig(source=str(leaky), image_size=8))
    assert small.image_size == 8
    assert own.split is not None
    assert small.split is not None
    assert Path(small.split).read_bytes() == Path(own.split).read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--test", "keep"], "--write-split"),
        (["--write-split", "{file}"], "is a folder"),
        (["--out", "{file}"], "does not contain a data check"),
        (["--split", "nowhere.json"], "The split file nowhere.json does not exist"),
        (["--quick", "--write-split", "new.json"], "needs a full check of all images"),
        (["--limit-per-class", "9", "--write-split", "new.json"], "leave out --limit-per-class"),
        (["--limit-per-class", "0"], "limit_per_class must be a whole number of at least 1"),
        (["--decisions", "nowhere.csv"], "nowhere.csv does not exist"),
    ],
)
def test_check_data_refuses_before_any_work(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "folder"
    file.mkdir()
    (file / "letter.txt").write_text("mine")
    asked = [option.format(file=file) for option in options]
    assert main(["check-data", "digits", *asked]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in file.iterdir()] == ["letter.txt"]


def test_split_and_clean_split_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--split", "a.json", "--clean-split"]) == 2
    assert "not both" in capsys.readouterr().err
