"""Runs that are interrupted, damaged, moved to another machine, or short of disk: the same bits in
the end, or a word about what is not."""

from __future__ import annotations

import csv
import dataclasses
import errno
import itertools
import json
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from faults import ERRORS, STEPS, failing
from normlab import stopping
from normlab.data import DataConfig, DataSet, load
from normlab.errors import InputError
from normlab.runs import CHECKPOINTS, RunConfig
from normlab.seals import digest
from normlab.training import Keeping, evaluation, run, saving, train

SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 20, "crop_pad": 1}
EVERY_STEP = Keeping(checkpoint_minutes=0)
NEVER = Keeping(checkpoint_minutes=1e6)
HERE = "test_checkpoints"


class Drawing(nn.BatchNorm2d):
    """Draws from every global generator there is, in training."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            noise = 1 + 0.1 * torch.randn(x.shape[1], 1, 1)
            y = y * noise + 0.1 * float(np.random.randn()) + 0.1 * random.gauss(0.0, 1.0)
        return y


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load(DataConfig(limit_per_class=8))


@pytest.fixture(scope="module")
def whole(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(RunConfig(**SMALL), digits, folder)
    return folder


@pytest.fixture(autouse=True)
def _reported_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(saving, "POLL_SECONDS", 0.0)


def _content(folder: Path) -> dict[str, Any]:
    """All that a run left, but for times."""
    found: dict[str, Any] = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("run.json", "history.csv")
    }
    with (folder / "history.csv").open() as opened:
        found["history.csv"] = [{**row, "seconds": ""} for row in csv.DictReader(opened)]
    record = json.loads((folder / "run.json").read_text())
    timed = ("seconds", "processor_seconds", "processor_seconds_by_epoch", "written", "sha256",
             "resumed")  # fmt: skip
    found["run.json"] = {name: value for name, value in record.items() if name not in timed}
    found["run.json"].get("files", {}).pop("history.csv", None)
    return found


def _stopped_after(
    step: int, config: RunConfig, data: DataSet, folder: Path, keeping: Keeping = NEVER
) -> list[run.Progress]:
    """Asks for an end while an update is made, as a signal would."""
    seen: list[run.Progress] = []

    def stop(at: run.Progress) -> None:
        seen.append(at)
        if at.step >= step:
            stopping.request()

    with pytest.raises(stopping.Stopped), stopping.handled():
        train(config, data, folder, stop, keeping=keeping)
    return seen


def _checkpoints(folder: Path) -> list[Path]:
    """The newest last."""
    return sorted(
        (folder / CHECKPOINTS).glob("*.safetensors"), key=lambda p: int(p.name.partition("-")[0])
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"accumulate": 2},
        {"budget": "updates", "reference_batch": 25, "accumulate": 2},
        {"precision": "bfloat16", "norm": "bin"},
        {"patience": 1, "epochs": 4, "lr": 1e-6},
        {"record_features": True, "flip": True},
        {"balance": "sampling"},
        {"norm": f"{HERE}:Drawing"},
        {"optimizer": "adamw", "lr": 1e-3, "clip_norm": 1.0},
        {"norm": "batch_renorm:momentum=0.5"},
    ],
    ids=lambda fields: ",".join(fields) or "plain",
)
def test_a_run_stopped_at_every_update_ends_with_the_same_bits(
    fields: dict[str, Any], digits: DataSet, tmp_path: Path
) -> None:
    config = RunConfig(**{**SMALL, "batch_size": 32, **fields})
    record = train(config, digits, tmp_path / "whole")
    step = 0
    for step in range(1, record["steps_done"] + 1):
        seen = _stopped_after(step, config, digits, tmp_path / "cut")
        assert seen[0].step >= step - 1, "each goes on where the one before was stopped"
        assert json.loads((tmp_path / "cut/run.json").read_text())["status"] == "interrupted"
    assert step >= 4
    assert "resumed" not in train(config, digits, tmp_path / "cut")
    assert _content(tmp_path / "cut") == _content(tmp_path / "whole")
    assert not (tmp_path / "cut" / CHECKPOINTS).exists()


def test_a_kill_loses_no_more_than_the_time_between_checkpoints(
    whole: Path, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill does not ask: what is there is what was saved when it was due."""
    now = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])

    def kill(at: run.Progress) -> None:
        now[0] += 20  # seconds for every update, and for the end of an epoch
        if at.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(RunConfig(**SMALL), digits, tmp_path / "cut", kill, keeping=Keeping())
    steps = [int(path.name.partition("-")[0]) for path in _checkpoints(tmp_path / "cut")]
    assert steps == [3, 5]
    seen: list[run.Progress] = []
    train(RunConfig(**SMALL), digits, tmp_path / "cut", seen.append)
    assert [at.step for at in seen[:2]] == [5, 6]
    assert seen[0].notes == ("The run resumes at step 5.",)
    assert _content(tmp_path / "cut") == _content(whole)


@pytest.mark.parametrize("passes", [1, 3], ids=["validation", "the last evaluation"])
def test_a_stop_does_not_wait_for_an_evaluation(
    passes: int, whole: Path, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count(1)

    def measured(*args: Any) -> Any:
        raise AssertionError("the pass was finished")

    def evaluate(*args: Any) -> evaluation.Evaluation:
        if next(asked) == passes:
            stopping.request()
            monkeypatch.setattr(evaluation, "measure", measured)
        return evaluation.evaluate(*args)

    with monkeypatch.context() as patched:
        patched.setattr(run, "evaluate", evaluate)
        with pytest.raises(stopping.Stopped), stopping.handled():
            train(RunConfig(**SMALL), digits, tmp_path / "cut", keeping=NEVER)
    monkeypatch.undo()
    assert len(_checkpoints(tmp_path / "cut")) == 1
    train(RunConfig(**SMALL), digits, tmp_path / "cut")
    assert _content(tmp_path / "cut") == _content(whole)


def test_checkpoints_change_no_result_and_are_no_part_of_what_a_run_is(
    whole: Path, digits: DataSet, tmp_path: Path
) -> None:
    train(RunConfig(**SMALL), digits, tmp_path / "often", keeping=EVERY_STEP)
    assert _content(tmp_path / "often") == _content(whole)
    for wrong in ({"checkpoint_minutes": -1}, {"checkpoint_minutes": "1"}, {"resume": "yes"}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
            Keeping(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def interrupted(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "interrupted"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "REPORT_SECONDS", 0.0)
        _stopped_after(6, RunConfig(**SMALL), digits, folder, EVERY_STEP)
    assert [path.name.partition("-")[0] for path in _checkpoints(folder)] == ["5", "6"]
    return folder


@pytest.fixture
def two(interrupted: Path, tmp_path: Path) -> Path:
    """A run that was stopped after step 6, with the checkpoints of steps 5 and 6."""
    return Path(shutil.copytree(interrupted, tmp_path / "two"))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _without_header(path: Path) -> None:
    path.write_bytes(bytes(8) + path.read_bytes()[8:])


def _half_a_name(path: Path) -> None:
    path.write_bytes(b"half of a checkpoint")


def _pipe(path: Path) -> None:
    import os

    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)  # no byte of it takes room


DAMAGES = [_truncated, _without_header, _half_a_name, _pipe, _endless]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_said(
    damage: Callable[[Path], None], two: Path, whole: Path, digits: DataSet
) -> None:
    damage(_checkpoints(two)[-1])
    seen: list[run.Progress] = []
    record = train(RunConfig(**SMALL), digits, two, seen.append)
    said = "The last checkpoint was damaged. The run resumes from the one at step 5."
    assert seen[-1].notes == (said,)
    assert record["resumed"] == [{"step": 5, "damaged": 1}]
    assert _content(two) == _content(whole)


def test_where_both_are_damaged_the_run_starts_over_and_says_so(
    two: Path, whole: Path, digits: DataSet
) -> None:
    for path in _checkpoints(two):
        _truncated(path)
    seen: list[run.Progress] = []
    train(RunConfig(**SMALL), digits, two, seen.append)
    assert seen[-1].notes == ("The checkpoints were damaged, so the run starts over.",)
    assert seen[1].step == 1
    assert _content(two) == _content(whole)


def test_one_that_is_damaged_does_not_displace_one_that_is_whole(
    two: Path, whole: Path, digits: DataSet
) -> None:
    """The older one serves, and is there until a newer one is."""
    _truncated(_checkpoints(two)[-1])
    _stopped_after(6, RunConfig(**SMALL), digits, two)
    names = [path.name.partition("-")[0] for path in _checkpoints(two)]
    assert names == ["5", "6"]
    seen: list[run.Progress] = []
    train(RunConfig(**SMALL), digits, two, seen.append)
    assert seen[-1].notes == ("The run resumes at step 6.",)
    assert seen[1].step == 7
    assert _content(two) == _content(whole)


def test_no_flipped_bit_of_a_checkpoint_gets_into_a_run(two: Path, digits: DataSet) -> None:
    """Each of 200 is noticed, wherever it is."""
    config = RunConfig(**SMALL)
    one = run._Run(config, digits, two, {})
    assert one.step == 6
    newest = _checkpoints(two)[-1]
    content = newest.read_bytes()
    generator = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [*generator.integers(header, size=50), *generator.integers(len(content), size=150)]
    resuming = run.Resuming(
        two, one.described.identity, config, one.model, one.optimizer, one.updates, one.made_on
    )
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        newest.write_bytes(flipped)
        found = resuming.find(Keeping(), lambda _: None)
        assert found is not None
        assert found[0].step == 5, f"the flip at {place} was not noticed"


def _rewritten(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Changed by somebody who knows what a name is made of."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = safetensors.torch.load(content)
    change(tensors, metadata)
    changed = safetensors.torch.save(tensors, metadata)
    path.unlink()
    step = path.name.partition("-")[0]
    path.with_name(f"{step}-{digest(changed)}.safetensors").write_bytes(changed)


def _standing_with(**values: Any) -> Callable[[dict[str, Tensor], dict[str, str]], None]:
    def change(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["standing"] = json.dumps({**json.loads(metadata["standing"]), **values})

    return change


HOSTILE: dict[str, Callable[[dict[str, Tensor], dict[str, str]], Any]] = {
    "a larger weight": lambda t, m: t.update({"model/conv0.weight": torch.zeros(64, 64, 9, 9)}),
    "another type": lambda t, m: t.update({"model/fc.bias": t["model/fc.bias"].double()}),
    "a weight too many": lambda t, m: t.update({"model/more": torch.zeros(1)}),
    "a weight too few": lambda t, m: t.pop("model/fc.bias"),
    "another group": lambda t, m: t.update({"elsewhere/x": torch.zeros(1)}),
    "momentum of no parameter": lambda t, m: t.update(
        {"optimizer/999.momentum_buffer": torch.zeros(1)}
    ),
    "momentum of another shape": lambda t, m: t.update(
        {"optimizer/0.momentum_buffer": torch.zeros(1)}
    ),
    "another memory": lambda t, m: t.update({"optimizer/0.__class__": torch.zeros(1)}),
    "generators": lambda t, m: t.update({"random/torch": torch.zeros(3, dtype=torch.uint8)}),
    "sizes": lambda t, m: t.update({"epoch/sizes": t["epoch/sizes"] * -1}),
    "metadata": lambda t, m: m.pop("standing"),
    "epochs": _standing_with(epoch=10**9),
    "epochs that are text": _standing_with(epoch="1"),
    "history": _standing_with(history=[]),
    "rows": _standing_with(history=[{"epoch": 1}, 2]),
    "rows of rows": _standing_with(history={"epoch": 1}),
    "an accuracy": _standing_with(best_accuracy=[1]),
    "processor time": _standing_with(processor=[-1.0]),
    "seconds": lambda t, m: m.update(seconds="nan"),
    "machine": lambda t, m: m.update(made_on='{"torch": [[]]}'),
    "step": lambda t, m: m.update(step="7"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_checkpoint_that_is_not_of_this_run_is_refused(
    change: Callable[[dict[str, Tensor], dict[str, str]], Any], two: Path, digits: DataSet
) -> None:
    _rewritten(_checkpoints(two)[-1], change)
    one = run._Run(RunConfig(**SMALL), digits, two, {})
    assert one.step == 5
    assert one.standing.resumed == [{"step": 5, "damaged": 1}]


def test_a_checkpoint_of_another_run_or_an_earlier_version_is_not_used(
    two: Path, whole: Path, digits: DataSet, tmp_path: Path
) -> None:
    shutil.copytree(two / CHECKPOINTS, tmp_path / "other" / CHECKPOINTS)
    other = run._Run(RunConfig(**SMALL, seed=1), digits, tmp_path / "other", {})
    assert (other.step, other.told.notes) == (0, ())
    place = tmp_path / "earlier" / CHECKPOINTS
    place.mkdir(parents=True)
    (place / "state.safetensors").write_bytes(b"of an earlier version")
    seen: list[run.Progress] = []
    train(RunConfig(**SMALL), digits, place.parent, seen.append)
    assert "is of an earlier version of normlab, so the run starts over" in seen[-1].notes[0]
    assert _content(place.parent) == _content(whole)


def test_a_checkpoint_without_processor_time_is_used_and_none_is_made_up(
    two: Path, whole: Path, digits: DataSet
) -> None:
    """As versions before wrote them."""

    def without(_: dict[str, Tensor], metadata: dict[str, str]) -> None:
        standing = json.loads(metadata["standing"])
        del standing["processor"], standing["processor_since"]
        metadata["standing"] = json.dumps(standing)

    known = train(RunConfig(**SMALL), digits, Path(shutil.copytree(two, two.parent / "known")))
    assert len(known["processor_seconds_by_epoch"]) == SMALL["epochs"]
    assert known["processor_seconds"] >= sum(known["processor_seconds_by_epoch"]) - 0.01
    begun = two.parent / "begun"
    _stopped_after(1, RunConfig(**SMALL), digits, begun, Keeping())  # before an epoch is over
    for folder in (two, begun):
        for path in _checkpoints(folder):
            _rewritten(path, without)
        record = train(RunConfig(**SMALL), digits, folder)
        assert "resumed" not in record
        assert not {"processor_seconds", "processor_seconds_by_epoch"} & set(record)
        assert _content(folder) == _content(whole)


def test_a_run_resumes_elsewhere_only_when_told_and_says_so(
    two: Path, whole: Path, digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, here = RunConfig(**SMALL), run.fingerprint
    shutil.copytree(two, tmp_path / "again")
    monkeypatch.setattr(run, "fingerprint", lambda device: {**here(device), "torch": "9.9"})
    was = str(torch.__version__)
    with pytest.raises(InputError, match="torch") as refused:
        train(config, digits, two)
    for said in (f"torch (was {was}, is 9.9)", "--resume changed", "--resume restart", "step 6"):
        assert said in str(refused.value)
    assert len(_checkpoints(two)) == 2, "what can be resumed elsewhere is still there"

    seen: list[run.Progress] = []
    record = train(config, digits, two, seen.append, keeping=Keeping(resume="changed"))
    assert [at.step for at in seen[:2]] == [6, 7]
    assert f"torch (was {was}, is 9.9)" in seen[-1].notes[0]
    assert record["resumed"] == [{"step": 6, "from": {"torch": was}, "to": {"torch": "9.9"}}]
    assert json.loads((two / "run.json").read_text())["resumed"] == record["resumed"]

    record = train(config, digits, tmp_path / "again", keeping=Keeping(resume="restart"))
    assert "resumed" not in record
    assert _content(tmp_path / "again") == _content(whole)


def test_where_a_run_was_resumed_is_kept_through_further_checkpoints(
    two: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, here = RunConfig(**SMALL), run.fingerprint
    monkeypatch.setattr(run, "fingerprint", lambda device: {**here(device), "threads": "2"})
    _stopped_after(7, config, digits, two, Keeping(resume="changed"))
    monkeypatch.undo()
    record = train(config, digits, two, keeping=Keeping(resume="changed"))
    one = {"step": 6, "from": {"threads": "1"}, "to": {"threads": "2"}}
    back = {"step": 7, "from": {"threads": "2"}, "to": {"threads": "1"}}
    assert record["resumed"] == [one, back]


def test_training_goes_on_where_checkpoints_cannot_be_saved(
    digits: DataSet, tmp_path: Path
) -> None:
    """Every step of twelve saves fails in every way: said once, and the results are the same."""
    config = RunConfig(**{**SMALL, "epochs": 4})
    train(config, digits, tmp_path / "whole")
    seen: list[run.Progress] = []

    def kill(at: run.Progress) -> None:
        seen.append(at)
        if at.step == 15:
            raise KeyboardInterrupt

    with ExitStack() as faults:
        failed = [
            faults.enter_context(failing(step, number, f"{CHECKPOINTS}/{update}-"))
            for update, (step, number) in enumerate(itertools.product(STEPS, ERRORS.values()), 1)
        ]
        with pytest.raises(KeyboardInterrupt):
            train(config, digits, tmp_path / "cut", kill, keeping=EVERY_STEP)
    # The last update of an epoch is tried again after its evaluation.
    assert [len(found) for found in failed] == [1] * 12
    notes = list(seen[-1].notes)
    assert notes[0] == (
        "The checkpoint at step 1 could not be saved: the disk is full. Training goes on, and "
        "saving is tried again."
    )
    assert notes[1] == "A checkpoint was saved again, at step 4."
    assert [p.name.partition("-")[0] for p in _checkpoints(tmp_path / "cut")] == ["13", "14"]
    assert not list(tmp_path.rglob(".*.part"))
    train(config, digits, tmp_path / "cut")
    assert _content(tmp_path / "cut") == _content(tmp_path / "whole")


def test_results_wait_for_room(whole: Path, two: Path, digits: DataSet) -> None:
    files = ("history.csv", "predictions.npz", "weights.safe", "run.json")
    seen: list[run.Progress] = []
    with ExitStack() as faults:
        failed = [
            faults.enter_context(failing(step, errno.ENOSPC, name, times=2))
            for step, name in zip(STEPS, files, strict=True)
        ]
        train(RunConfig(**SMALL), digits, two, seen.append)
    assert [len(found) for found in failed] == [2] * 4
    assert "The disk is full. What the run has to write waits for room in" in seen[-1].notes[-1]
    assert len(set(seen[-1].notes)) == 2  # with the one that says where it resumes
    assert _content(two) == _content(whole)


@pytest.mark.parametrize(
    ("step", "number"),
    list(zip(STEPS, (errno.EIO, errno.EACCES, errno.EFBIG, errno.ESTALE), strict=True)),
)
def test_results_that_cannot_be_written_keep_the_checkpoint(
    step: str, number: int, whole: Path, two: Path, digits: DataSet
) -> None:
    config = RunConfig(**SMALL)
    with (
        failing(step, number, "predictions.npz", times=10**6),
        pytest.raises(InputError, match=r"cannot be written: .*The checkpoint at step 6 is kept"),
    ):
        train(config, digits, two)
    assert json.loads((two / "run.json").read_text())["status"] == "interrupted"
    assert len(_checkpoints(two)) == 2
    train(config, digits, two)
    assert _content(two) == _content(whole)


def test_a_disk_that_stays_full_ends_the_run_with_what_is_kept(
    two: Path, whole: Path, digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "WAIT_SECONDS", 0.05)
    config = RunConfig(**SMALL)
    with (
        failing("write", errno.ENOSPC, "weights.safe", times=10**6) as failed,
        pytest.raises(InputError, match=r"the disk is full\. The checkpoint at step 6 is kept"),
    ):
        train(config, digits, two)
    assert failed
    train(config, digits, two)
    assert _content(two) == _content(whole)


def test_waiting_for_room_ends_when_asked(two: Path, whole: Path, digits: DataSet) -> None:
    def stop(at: run.Progress) -> None:
        if any("waits for room" in note for note in at.notes):
            stopping.request()

    config = dataclasses.replace(RunConfig(**SMALL))
    with (
        failing("write", errno.ENOSPC, "history.csv", times=10**6),
        pytest.raises(stopping.Stopped),
        stopping.handled(),
    ):
        train(config, digits, two, stop)
    train(config, digits, two)
    assert _content(two) == _content(whole)
