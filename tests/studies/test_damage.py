"""What is damaged is noticed, named, and repaired only when that is asked for."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import tomli_w

import normlab
from normlab import files
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.report import Report
from normlab.report.sections.answer import sentences
from normlab.report.sections.provenance import ProvenanceSection
from normlab.results import answers, read_results
from normlab.runs import RunConfig, read_history, read_predictions, read_record
from normlab.runs.damage import damage_of_run, damage_of_study
from normlab.runs.layout import LISTED
from normlab.runs.pictures import read_pictures
from normlab.runs.same_function import SameFunction, write_same_function
from normlab.runs.study_file import read_question
from normlab.runs.tuning import ChosenValue, Search, TuningRecord
from normlab.seals import DamagedError
from normlab.studies import Request, make_plan, prepare_study
from normlab.training import train
from normlab.workflow import Comparison, report, train_one

SMALL: dict[str, Any] = {"limit_per_class": 6, "n": 1, "epochs": 1, "workers": 1}
TUNED = Search("lr", 0.02, (0.01, 0.02), (1000,))


def _compare(out: Path, **options: Any) -> Comparison:
    done = normlab.compare(**{**SMALL, "arms": "bn,none", "seeds": 1, "out": out, **options})
    assert isinstance(done, Comparison)
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "study"
    _compare(folder, record_features=True)
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


def _flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def _read(study: Path) -> list[Any]:
    """All that the page is made of."""
    results = read_results(study)
    found = answers(results)
    pictures = read_pictures(study)
    return [
        results.question,
        results.data,
        results.rows,
        [(run.record, run.history, run.features) for run in results.runs],
        [c.__dict__ for c in results.checks],
        [(arm, s, p.probabilities.tobytes()) for arm, of in found.of_arm.items()
         for s, p in of.items()],
        found.left_out,
        {name: pixels.tobytes() for name, pixels in pictures.items()},
    ]  # fmt: skip


def test_no_flipped_bit_is_silent(study: Path) -> None:
    write_same_function(study, SameFunction("bn", "none", 3, {}, {"loss": 0.0}), "question")
    TuningRecord(TUNED, (0.01, 0.02), (ChosenValue("bn", 0.01, "bn,lr=0.01"),), "").write(study)
    known = _read(study)
    assert damage_of_study(study) == []
    own = [path for path in sorted(study.glob("runs/*/*/*")) if path.is_file()]
    assert {path.name for path in own} == {"run.json", *LISTED}
    others = ["study.toml", "data.json", "hardest.npz", "checks/same-function/none.json",
              "tuning/lr/tuning.json"]  # fmt: skip
    draw = random.Random(0)
    noticed = 0
    for path in [*own, *(study / name for name in others)]:
        whole = path.read_bytes()
        for _ in range(10):
            content = bytearray(whole)
            content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(content)
            found = damage_of_study(study)
            noticed += bool(found)
            if found:
                assert str(path) in " ".join(found[0].found)
            try:
                read = _read(study)
            except InputError:
                continue
            # What the page does not need, compare has noticed; or nothing has changed.
            assert read == known
            assert found or path.name == "hardest.npz"
        path.write_bytes(whole)
    assert noticed > 10 * len(own)


def test_a_damaged_run_is_refused_with_all_there_is_to_say(study: Path) -> None:
    run = study / "runs/bn/seed-0"
    _flip(run / "weights.safetensors")
    _flip(study / "runs/none/seed-0/history.csv", -4)
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        _compare(study, record_features=True)
    said = str(caught.value)
    assert said.startswith(f"2 runs of {study} are damaged. {run / 'weights.safetensors'} is dama")
    assert "none/seed-0/history.csv is damaged" in said
    assert re.search(r"the run ended on \d{4}-\d\d-\d\d at \d\d:\d\d UTC; the file was last", said)
    assert f"same command with --repair: what is damaged is moved to {study / 'damaged'}" in said
    with pytest.raises(InputError, match="2 runs of"):
        _compare(study, record_features=True, dry_run=True)
    with pytest.raises(InputError, match=r"--repair or --dry-run, not both"):
        _compare(study, record_features=True, dry_run=True, repair=True)
    with pytest.raises(DamagedError, match=r"history\.csv is damaged.*with --repair"):
        report(study)
    assert before == {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}


def test_repair_makes_damaged_runs_again_and_deletes_nothing(study: Path, made: Path) -> None:
    run = study / "runs/bn/seed-0"
    _flip(run / "run.json")
    old = (run / "run.json").read_bytes()
    watcher = MagicMock()
    call = read_question(study)["calls"][0]["command"]
    done = _compare(study, record_features=True, repair=True, watcher=watcher, call=call)
    assert done.runs_made == 1
    assert (study / "damaged/bn/seed-0-1/run.json").read_bytes() == old
    for name in ("weights.safetensors", "predictions.npz", "features.csv"):
        assert (run / name).read_bytes() == (made / "runs/bn/seed-0" / name).read_bytes()
    assert f"1 run moved to {study / 'damaged'}" in watcher.stage.call_args_list[0].args[0]
    assert damage_of_study(study) == []
    # The call is the same: it was only carried out again.
    assert len(read_question(study)["calls"]) == 1
    assert _compare(study, record_features=True).runs_made == 0


def test_what_every_call_writes_is_written_anew_and_said(study: Path, made: Path) -> None:
    for name in ("data.json", "hardest.npz"):
        _flip(study / name)
    with pytest.raises(InputError, match=r"data\.json is damaged"):
        report(study)
    watcher = MagicMock()
    assert _compare(study, record_features=True, watcher=watcher).runs_made == 0
    said = " ".join(call.args[0] for call in watcher.stage.call_args_list)
    assert re.search(r"data\.json is damaged .*It is written anew", said)
    assert re.search(r"hardest\.npz .*It is written anew", said)
    for name in ("data.json", "hardest.npz"):
        assert (study / name).read_bytes() == (made / name).read_bytes()


def test_a_study_is_written_anew_from_its_runs(study: Path) -> None:
    more = {"record_features": True, "seeds": 3}
    _compare(study, **more)
    _compare(study, arms="gn:groups=4", **more)
    known = read_question(study)
    _flip(study / "study.toml", 200)
    damaged = (study / "study.toml").read_bytes()
    with pytest.raises(InputError, match=r"study\.toml is damaged.*--repair"):
        report(study)
    with pytest.raises(InputError, match=r"1 file of .*study\.toml is damaged.*--repair"):
        _compare(study, **more)
    with pytest.raises(InputError, match=r"toml is damaged.*epochs \(1 there, 2 asked\).*--repair"):
        _compare(study, **more, epochs=2, repair=True)
    assert (study / "study.toml").read_bytes() == damaged
    # Fewer arms and seeds than there are: none is lost.
    done = _compare(study, record_features=True, repair=True)
    assert done.runs_made == 0
    assert (study / "damaged/study.toml-1").read_bytes() == damaged
    again = read_question(study)
    assert dict(again["arms"]) == dict(known["arms"])
    for name in ("seeds", "run", "data", "varied", "what"):
        assert again[name] == known[name]
    # What is not known any more is not claimed.
    assert known["verdict"]["looked"] == [1] or known["verdict"]["grown"]
    assert again["verdict"]["lost"]
    said = Report(done.results)
    assert "hold simultaneously" not in " ".join(sentences.answer(said).sure)
    assert "no longer known" in " ".join(sentences.warnings(said))
    assert "is no longer known" in done.report.html.read_text(encoding="utf-8")
    # And stays so.
    assert _compare(study, record_features=True, seeds=3).results.question["verdict"]["lost"]


def test_what_belongs_to_a_tuning_waits_for_the_command_that_tunes(tmp_path: Path) -> None:
    tune = {"tune": "lr=0.01,0.02", "tune_seeds": 1, "arms": "none"}
    first = _compare(tmp_path / "s", **tune)
    tuning = tmp_path / "s/tuning/lr"
    trial = next(tuning.glob("trials/runs/*/seed-1000"))
    known = (tuning / "tuning.json").read_bytes()
    _flip(trial / "history.csv")
    _flip(tuning / "tuning.json")
    with pytest.raises(
        InputError, match=r"1 run and 1 file .*--repair --tune lr=0.01,0.02 --tune-s"
    ):
        _compare(tmp_path / "s", arms="none")
    with pytest.raises(InputError, match=r"needs --tune lr=0.01,0.02 --tune-seeds 1 and --repair"):
        _compare(tmp_path / "s", arms="none", repair=True)
    assert (tuning / "tuning.json").read_bytes() != known
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    with pytest.raises(DamagedError, match=r"lr/tuning\.json is damaged.*with --repair"):
        report(first.folder)
    assert before == {path: path.read_bytes() for path in before}
    again = _compare(tmp_path / "s", **tune, repair=True)
    assert (tuning / "tuning.json").read_bytes() == known
    assert again.results.rows == first.results.rows
    assert len(list((tmp_path / "s/damaged/tuning/lr/trials").rglob("history.csv"))) == 1


def test_a_damaged_check_is_asked_again(study: Path) -> None:
    write_same_function(study, SameFunction("bn", "none", 3, {}, {"loss": 0.0}), "question")
    path = study / "checks/same-function/none.json"
    _flip(path)
    with pytest.raises(InputError, match=r"none\.json is damaged"):
        report(study)
    with pytest.raises(InputError, match=r"none\.json is damaged.*--repair"):
        _compare(study, record_features=True)
    _compare(study, record_features=True, repair=True)
    assert (study / "damaged/checks/same-function/none.json-1").is_file()


def test_models_that_were_deleted_are_said_and_block_nothing(study: Path) -> None:
    for name in ("model.json", "weights.safetensors"):
        (study / "runs/bn/seed-0" / name).unlink()
    watcher = MagicMock()
    assert _compare(study, record_features=True, watcher=watcher).runs_made == 0
    assert "seed-0 is missing. No result depends on it" in watcher.stage.call_args_list[0].args[0]
    assert _compare(study, record_features=True, repair=True).runs_made == 1
    (study / "runs/bn/seed-0/predictions.npz").unlink()
    with pytest.raises(InputError, match=r"predictions\.npz is missing; the run ended on"):
        _compare(study, record_features=True)


def _forget(study: Path, run: str) -> None:
    """As earlier versions wrote it."""
    path = study / run / "run.json"
    record = json.loads(path.read_text())
    for name in ("files", "sha256"):
        del record[name]
    path.write_text(json.dumps(record))


def test_what_cannot_be_checked_is_said(study: Path) -> None:
    def notes() -> str:
        found = ProvenanceSection().context(Report(read_results(study)))["notes"]
        return " ".join(note for note in found if "checksum" in note)

    assert notes() == ""
    _forget(study, "runs/bn/seed-0")
    assert notes() == (
        "1 of 2 runs was written by an earlier version of normlab, without checksums. Damage in "
        "its files is noticed only where files contradict each other."
    )  # fmt: skip
    _forget(study, "runs/none/seed-0")
    question = read_question(study)
    (study / "study.toml").write_text(tomli_w.dumps(question))
    assert "All 2 runs were written by" in notes()
    assert "study.toml has no checksum" in notes()
    # It goes on as before, and what is written from now on is sealed.
    assert _compare(study, record_features=True, seeds=2).runs_made == 2
    assert "2 of 4 runs were written by" in notes()
    assert "study.toml" not in notes()


def _edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return edit


def _history(run: Path) -> None:
    lines = (run / "history.csv").read_text().splitlines()
    row = lines[-1].split(",")
    row[3] = "0.0"
    (run / "history.csv").write_text("\n".join([*lines[:-1], ",".join(row)]) + "\n")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_edited(lambda r: r["metrics"]["test"].update(accuracy=0.5)), "accuracy on test is 0.5"),
        (_edited(lambda r: r["metrics"]["train"].update(loss=0.1)), "loss on train is 0.1"),
        (_edited(lambda r: r["metrics"]["test"].update(macro_f1=0.7)), "macro_f1 on test is 0.7"),
        (_edited(lambda r: r["metrics"]["val"].update(accuracy=0.9)), "accuracy on val is 0.9"),
        (_edited(lambda r: r.update(chosen_epoch=2)), "epoch 2 was chosen, and by history"),
        (_edited(lambda r: r.update(epochs_done=3)), "3 epochs were done, and history.csv has 1"),
        (_history, "its accuracy on val is"),
    ],
)  # fmt: skip
def test_files_of_an_earlier_run_are_compared_with_each_other(
    study: Path, edit: Callable[[Path], None], said: str
) -> None:
    _forget(study, "runs/bn/seed-0")
    edit(study / "runs/bn/seed-0")
    with pytest.raises(InputError, match=said):
        _compare(study, record_features=True)


def test_metrics_are_compared_where_predictions_are_read(study: Path) -> None:
    run = study / "runs/bn/seed-0"
    _forget(study, "runs/bn/seed-0")
    _edited(lambda r: r["metrics"]["test"].update(accuracy=0.5))(run)
    for read in (lambda: read_predictions(run, "test"), lambda: report(study)):
        with pytest.raises(DamagedError, match=r"accuracy on test is 0\.5, and predictions\.npz"):
            read()


def test_files_that_a_run_did_not_write_are_not_taken_for_its_own(study: Path) -> None:
    run = study / "runs/bn/seed-0"
    record = read_record(run)
    del record["files"]["features.csv"]
    files.write_json(run / "run.json", record)
    with pytest.raises(DamagedError, match="the run did not write it"):
        read_results(study)
    files.write_json(run / "run.json", {**record, "files": {"../../../secret": "0" * 64}})
    with pytest.raises(InputError, match="was not written by normlab"):
        read_history(run)


def test_the_model_of_another_run_is_not_taken_for_that_of_this_one(study: Path) -> None:
    normlab.load_model(study / "runs/bn/seed-0")
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(study / "runs/none/seed-0" / name, study / "runs/bn/seed-0" / name)
    with pytest.raises(DamagedError, match=r"bn/seed-0/model\.json is damaged"):
        normlab.load_model(study / "runs/bn/seed-0")


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=6))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_between_two_writes_ends_with_the_same_bits(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    config = RunConfig(n=1, epochs=1, record_features=True)
    train(config, digits, tmp_path / "whole")
    same = ("weights.safetensors", "predictions.npz", "model.json", "features.csv")
    write, written = files.write_with, 0

    def count(path: Path, fill: Any) -> None:
        nonlocal written
        if when == "after":
            write(path, fill)
        written += 1
        if written == stop:
            raise KeyboardInterrupt
        if when == "before":
            write(path, fill)

    for stop in range(1, 8):  # the record, four files, the model's card, the record
        written = 0
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_with", count)
            with pytest.raises(KeyboardInterrupt):
                train(config, digits, tmp_path / str(stop))
        if (tmp_path / str(stop)).is_dir():
            assert damage_of_run(tmp_path / str(stop)) == ()
        train(config, digits, tmp_path / str(stop))
        assert damage_of_run(tmp_path / str(stop)) == ()
        for name in same:
            assert (tmp_path / str(stop) / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()


def test_leftovers_of_killed_processes_block_nothing(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Request.of(arms="bn", seeds=1, n=1, epochs=1, limit_per_class=6))
    write = files.write_with

    def killed(path: Path, fill: Any) -> None:
        if path.name == stop:
            (path.parent / f".{stop}.abcd_123.part").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, fill)

    out = tmp_path / "study"
    out.mkdir()
    (out / ".lock").write_text("1")
    for name in ("data.json", "study.toml"):
        stop = name
        with monkeypatch.context() as patch:
            patch.setattr(files, "write_with", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare_study(out, plan, digits).write()
        assert not (out / "study.toml").exists()
    assert len(list(out.glob(".*.part"))) == 2
    prepare_study(out, plan, digits).write()
    assert (out / "study.toml").exists()
    # Somebody's own data.json is no leftover of ours.
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "data.json").write_text('{"fingerprint": "mine"}')
    with pytest.raises(InputError, match="is not empty"):
        prepare_study(theirs, plan, digits)
    run = tmp_path / "run"
    run.mkdir()
    (run / ".run.json.abcd_123.part").write_bytes(b"half")
    made = train_one({"limit_per_class": 6}, {"n": 1, "epochs": 1}, run)
    assert made.record["status"] == "complete"


def test_a_damaged_study_in_its_usual_place_is_not_begun_anew(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = make_plan(Request.of(arms="bn", seeds=1, n=1, epochs=1, limit_per_class=6))
    study = prepare_study(None, plan, digits)
    study.write()
    yesterday = study.folder.rename(study.folder.with_name(f"2000-01-01{study.folder.name[10:]}"))
    assert prepare_study(None, plan, digits).folder == yesterday
    _flip(yesterday / "study.toml")
    with pytest.raises(InputError, match=r"2000-01-01.*study\.toml is damaged.*--repair"):
        prepare_study(None, plan, digits)
    # Nothing of it had been run, so nothing is lost.
    assert not prepare_study(None, plan, digits, repair=True).plan.rule.lost
    assert prepare_study(None, plan, digits).folder == yesterday


def test_a_damaged_single_run(tmp_path: Path) -> None:
    asked: tuple[dict[str, Any], dict[str, Any]] = {"limit_per_class": 6}, {"n": 1, "epochs": 1}
    run = tmp_path / "run"
    train_one(*asked, run)
    known = (run / "weights.safetensors").read_bytes()
    _flip(run / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors is damaged.*command with --repair"):
        train_one(*asked, run)
    train_one(*asked, run, repair=True)
    assert (run / "weights.safetensors").read_bytes() == known
    assert (run / "damaged/run-1/run.json").is_file()
    assert train_one(*asked, run, repair=True).record == read_record(run)
    assert len(list((run / "damaged").iterdir())) == 1


def test_the_split_that_a_study_keeps_is_checked(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = tmp_path / "split.json"
    normlab.check_data(str(photos), write_split=str(split), out=tmp_path / "check")
    study = tmp_path / "study"
    asked = {"data": photos, "split": str(split), "limit_per_class": None, "arms": "none"}
    _compare(study, **asked)
    assert list(read_question(study)["files"]) == ["split.json"]
    split.rename(tmp_path / "moved.json")
    run = study / "runs/none/seed-0"
    config = read_record(run)["data"]["config"]
    from normlab.studies import recorded_data

    assert recorded_data(run, config).split == str(study / "split.json")
    known = (study / "split.json").read_bytes()
    _flip(study / "split.json")
    with pytest.raises(DamagedError, match=r"split\.json is damaged.*writes it anew"):
        recorded_data(run, config)
    (tmp_path / "moved.json").rename(split)
    assert _compare(study, **asked).runs_made == 0
    assert (study / "split.json").read_bytes() == known


def test_edited_or_cut_questions_are_noticed(study: Path) -> None:
    path = study / "study.toml"
    whole = path.read_bytes()
    for content in (
        whole.replace(b"margin = 0.5", b"margin = 1.5"),
        whole[:-40],
        whole + b"a = 1\n",
        whole[: len(whole) // 2].rpartition(b"\n")[0],
    ):
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"study\.toml"):
            read_question(study)
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert read_question(study)["verdict"]["margin"] == 0.5


def test_an_older_pictures_file_is_left_out_and_said(study: Path) -> None:
    with np.load(study / "hardest.npz") as held:
        np.savez(study / "hardest.npz", name=held["name"], pixels=held["pixels"])
    ((_, files_made),) = report(study)
    text = files_made.html.read_text(encoding="utf-8")
    assert "The images are not shown" in text
    assert "has no checksum: an earlier version of normlab wrote it, or it is damaged" in text
    _compare(study, record_features=True)
    assert read_pictures(study)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"x = 1\n"])
def test_a_question_that_is_gone_or_empty_is_written_anew(
    study: Path, content: bytes | None
) -> None:
    path = study / "study.toml"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="--repair"):
        _compare(study, record_features=True)
    made = _compare(study, record_features=True, repair=True)
    assert made.runs_made == 0
    assert made.results.question["verdict"]["lost"]


def test_a_file_where_a_run_should_be_is_moved_away(study: Path) -> None:
    place = study / "runs/bn/seed-0"
    shutil.rmtree(place)
    place.write_text("")
    with pytest.raises(InputError, match=r"bn/seed-0 is a file, .*--repair"):
        _compare(study, record_features=True)
    assert _compare(study, record_features=True, repair=True).runs_made == 1


def test_records_that_are_empty_say_what_to_do(study: Path) -> None:
    for name in ("data.json", "runs/bn/seed-0/run.json"):
        whole = (study / name).read_bytes()
        (study / name).write_bytes(b"")
        with pytest.raises(DamagedError, match=r"cannot be read: Exp.*last written.*\. .*command"):
            report(study)
        (study / name).write_bytes(whole)
