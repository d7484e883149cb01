"""Records that normlab did not write: each is refused in one sentence, before anything else."""

from __future__ import annotations

import io
import json
import os
import time
import tomllib
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from normlab.errors import InputError
from normlab.files import write_arrays, write_json
from normlab.results import answers, read_results
from normlab.runs import RunConfig, read_history, read_predictions
from normlab.runs.arms import MOST_ARMS, check_arms
from normlab.runs.pictures import read_pictures
from normlab.runs.study_file import read_question, write_question
from normlab.studies import Request, recorded_data
from normlab.studies.plan import make_plan
from normlab.studies.tuning import make_search
from report.folders import make_study

RUN = "runs/bn/seed-0"


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """What is timed below is no import."""
    make_plan(Request.of(arms="none"))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study", arms=("bn", "gn"), seeds=1, epochs=2, predictions=True)


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    toml = path.suffix == ".toml"
    content = tomllib.loads(path.read_text()) if toml else json.loads(path.read_text())
    change(content)
    if toml:
        path.write_text(tomli_w.dumps(content))
    else:
        content.pop("sha256", None)
        path.write_text(json.dumps(content))


def _put(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("seeds",), [-1], r"seeds\[0\] is -1, and must be a whole number from 0"),
        (("seeds",), [True], r"seeds\[0\] is true, and must be a whole number"),
        (("seeds",), [2**40], r"seeds\[0\] is 1099511627776, and must be"),
        (("seeds",), [0, 0], "seeds is 0, and must be there only once"),
        (("seeds",), list(range(1001)), "number of entries in seeds is 1001"),
        (("seeds",), 3, "seeds is 3, and must be a list"),
        (("arms",), ["bn", "gn"], "arms is a list, and must be a table"),
        (("arms",), {}, "arms is a table, and must be a table with an arm at least"),
        (("arms", "bn"), "bn", "arms.bn is 'bn', and must be a table"),
        (("arms", "bn"), {"lr": "much"}, "settings of bn cannot be: lr must be a number"),
        (("arms", "bn"), {"depth": 3}, "a name in arms.bn is 'depth', and must be one of norm"),
        (("run", "epochs"), 0, "epochs must be >= 1, got 0"),
        (("run", "epochs"), 10**12, "epochs must be <= 10000, got 1000000000000"),
        (("title",), {"a": 1}, "title is a table, and must be text"),
        (("varied",), "norm", "varied is 'norm', and must be a list"),
        (("verdict",), {"reference": "zz"}, "The reference 'zz' is not an arm"),
        (("verdict",), {"margin": -1}, "verdict.margin is -1, and must be a number above 0"),
        (("calls",), [1], r"calls\[0\] is 1, and must be a table"),
        (("same_function",), [["bn", "zz"]], "same_function is 'zz', and must be of arms"),
    ],
)
def test_a_question_that_cannot_be(study: Path, keys: Any, value: Any, said: str) -> None:
    _change(study / "study.toml", _put(*keys, value=value))
    with pytest.raises(InputError, match=said) as error:
        read_results(study)
    assert str(error.value).startswith(f"{study / 'study.toml'} cannot be used: ")


@pytest.mark.parametrize(
    "arm",
    ["/tmp/elsewhere", "../../elsewhere", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "",
     " bn", "nul", "x" * 250, "a\u202eb", "\ufffe", "bn."],
)  # fmt: skip
def test_no_arm_is_a_place_outside_its_study(arm: str, study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name of an arm"):
        check_arms([arm])
    if arm and "\0" not in arm:
        with pytest.raises(InputError, match="cannot be the name of an arm"):
            make_plan(Request.of(arms=[arm]))
    _change(study / "study.toml", _put("arms", arm, value={"norm": "bn"}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="cannot be the name of an arm"):
        read_question(study)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("pair", [("a:b=1", "a,b=1"), ("mine:Norm", "mine:norm"),
                                  ("\u00e4", "a\u0308")])  # fmt: skip
def test_no_two_arms_share_a_folder(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="would share a folder"):
        check_arms(pair)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("metrics", "test", "accuracy"), 5, "metrics.test.accuracy is 5, and must be a number"),
        (("metrics", "test", "accuracy"), "nan", "metrics.test.accuracy is nan"),
        (("metrics", "test", "macro_f1"), -1, "metrics.test.macro_f1 is -1"),
        (("metrics", "test"), [0.5], "metrics.test is a list, and must be a table"),
        (("metrics",), None, "metrics is empty, and must be there"),
        (("metrics", "holdout"), {}, "a name in metrics is 'holdout'"),
        (("status",), "finished", "status is 'finished', and must be complete, interrupted"),
        (("status",), ["complete"], "status is a list"),
        (("seconds",), "long", "seconds is 'long', and must be a number"),
        (("seconds",), -1, "seconds is -1"),
        (("seconds",), 1e300, "seconds is 1e[+]300"),
        (("config", "epochs"), "two", "epochs must be a whole number"),
        (("config",), [], "config is a list"),
        (("sites",), {"a": 1}, "sites is a table, and must be a list"),
        (("memory",), [1], "memory is a list, and must be a table"),
        (("versions",), {"torch": 2}, "versions.torch is 2, and must be text"),
        (("written",), "yesterday", "written is 'yesterday', and must be a date"),
    ],
)
def test_a_record_that_cannot_be(study: Path, keys: Any, value: Any, said: str) -> None:
    _change(study / RUN / "run.json", _put(*keys, value=value))
    with pytest.raises(InputError, match=said):
        read_results(study)


@pytest.mark.parametrize(
    "status", ["failed: killed by SIGKILL three times", "diverged at step 12", "interrupted"]
)
def test_a_run_that_ended_otherwise_is_read(study: Path, status: str) -> None:
    _change(study / RUN / "run.json", lambda record: record.update(status=status, metrics=None))
    assert read_results(study).runs[0].status == status


def test_a_run_that_is_made_again_has_no_metrics_yet(study: Path) -> None:
    _change(study / RUN / "run.json", _put("status", value="interrupted"))
    assert read_results(study).runs[0].metric("test", "accuracy") is None
    _change(study / RUN / "run.json", _put("status", value="diverged at step 3"))
    with pytest.raises(InputError, match="metrics is a table, and must be empty for a run that"):
        read_results(study)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("classes",), ["a", "a"], "classes is 'a', and must be there only once"),
        (("classes", 0), 7, r"classes\[0\] is 7, and must be text"),
        (("classes", 0), "", r"classes\[0\] is '', and must be text of 1"),
        (("counts", "test", "0"), -3, "counts.test.0 is -3"),
        (("counts", "test", "zebra"), 0, "a name in counts.test is 'zebra', and must be one of"),
        (("images", "test"), 5, "images.test is 5, and must be the sum of counts.test"),
        (("images",), [1], "images is a list"),
        (("mean",), [0.1, 0.2], "number of entries in mean is 2"),
        (("findings",), [{"check": "a", "level": "bad", "sentence": "b"}], "level is 'bad'"),
        (("channels",), 2.5, "channels is 2.5"),
    ],
)
def test_data_that_cannot_be(study: Path, keys: Any, value: Any, said: str) -> None:
    _change(study / "data.json", _put(*keys, value=value))
    with pytest.raises(InputError, match=said):
        read_results(study)


def test_what_a_later_version_adds_passes_but_settings_do_not(study: Path) -> None:
    for name in ("study.toml", "data.json", f"{RUN}/run.json"):
        _change(study / name, _put("later", value={"x": [1]}))
    assert len(read_results(study).runs) == 2
    _change(study / "study.toml", _put("run", "later", value=1))
    with pytest.raises(InputError, match="a name in run is 'later'"):
        read_results(study)


def test_what_could_not_be_read_back_is_not_written(study: Path) -> None:
    question = {**read_question(study), "title": "x" * 5000}
    before = (study / "study.toml").read_bytes()
    with pytest.raises(InputError, match="title is"):
        write_question(study, question)
    assert (study / "study.toml").read_bytes() == before


HEAD = "epoch,split,loss,accuracy,micro_f1,macro_f1,lr,seconds\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "1,val,0.5,nan,0.5,0.5,0.1,1\n", "accuracy in line 2 is nan"),
        (HEAD + "1,val,0.5,1.5,0.5,0.5,0.1,1\n", "accuracy in line 2 is 1.5"),
        (HEAD + "1,val,-1,0.5,0.5,0.5,0.1,1\n", "loss in line 2 is -1"),
        (HEAD + "1,val,x,0.5,0.5,0.5,0.1,1\n", "loss in line 2 is 'x'"),
        (HEAD + "1,val,1,0.5\n", "line 2 has 4 cells, not 8"),
        (HEAD + "1,test,1,0.5,0.5,0.5,0.1,1\n", "split in line 2 is 'test'"),
        (HEAD + "3,val,1,0.5,0.5,0.5,0.1,1\n", "epoch in line 2 is 3, and must be a whole number"),
        (HEAD + "1,val,1,0.5,0.5,0.5,0.1,1\n" * 2, "epoch in line 3 is 1"),
        (HEAD + "2,val,1,0.5,0.5,0.5,0.1,1\n1,val,1,0.5,0.5,0.5,0.1,1\n", "epoch in line 3 is 1"),
        ("epoch,loss\n1,1\n", "its columns are not epoch, split, loss"),
        ("", "its columns are not"),
        ("\0", "columns"),
    ],
)
def test_a_history_that_cannot_be(study: Path, text: str, said: str) -> None:
    _change(study / RUN / "run.json", _put("config", "epochs", value=2))
    (study / RUN / "history.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_history(study / RUN)


def test_a_history_of_a_million_rows_is_refused_at_once(study: Path) -> None:
    row = "{},val,1,0.5,0.5,0.5,0.1,1\n"
    (study / RUN / "history.csv").write_text(HEAD + "".join(map(row.format, range(1, 10**6))))
    started = time.process_time()
    with pytest.raises(InputError, match="larger than"):
        read_history(study / RUN)
    assert time.process_time() - started < 1


def _archive(path: Path, **changes: Any) -> None:
    with np.load(path) as held:
        content = dict(held) | {f"test_{name}": value for name, value in changes.items()}
    np.savez(path, **content)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("probabilities", lambda p: p * 2, "a probability is not from 0 to 1"),
        ("probabilities", lambda p: p * 0.9, "the probabilities of an image add up to 0.9"),
        ("probabilities", lambda p: p[:, :5], "probabilit|label"),
        ("label", lambda y: y + 9, "a label is 18, and there are 10 classes"),
        ("image", lambda names: np.repeat(names[:1], len(names)), "is there twice"),
        ("image", lambda names: np.char.add(names, "\ud800"), "a name is not text"),
        ("image", lambda names: np.full(len(names), 0x110000, "u4").view("U1"), "is not text"),
    ],
)
def test_predictions_that_cannot_be(
    study: Path, name: str, change: Callable[[Any], Any], said: str
) -> None:
    path = study / RUN / "predictions.npz"
    with np.load(path) as held:
        array = held[f"test_{name}"]
    _archive(path, **{name: change(array)})
    with pytest.raises(InputError, match=said):
        read_predictions(study / RUN, "test")


def test_predictions_of_other_images_than_the_data_counts_are_left_out(study: Path) -> None:
    path = study / RUN / "predictions.npz"
    with np.load(path) as held:
        few = {name: held[f"test_{name}"][:50] for name in ("image", "label", "probabilities")}
    _archive(path, **few)
    record = json.loads((study / RUN / "run.json").read_text())
    del record["metrics"]["test"]  # which would contradict them
    write_json(study / RUN / "run.json", record)
    (said,) = answers(read_results(study)).left_out
    assert "its predictions are of 50 images, and data.json has 271" in said


def test_a_small_archive_does_not_fill_the_memory(study: Path) -> None:
    path = study / RUN / "predictions.npz"
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": (40_000_000, 10)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("test_probabilities.npy", "w", force_zip64=True) as member,
    ):
        member.write(buffer.getvalue())
        for _ in range(20):
            member.write(bytes(10 << 20))
    tracemalloc.start()
    with pytest.raises(InputError, match="would unpack to more than"):
        read_predictions(study / RUN, "test")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 10**9}, "seeds must be at most 1,000"),
        ({"tune_seeds": 10**9}, "tune seeds must be at most 1,000"),
        ({"epochs": 10**12}, "epochs must be <= 10000"),
        ({"epochs": 10**400}, "epochs must be <= 10000, got a number of 401 digits"),
        ({"lr": 10**400}, "lr must be a number of fewer digits"),
        ({"n": 10**9}, "n must be <= 1000"),
        ({"batch_size": list(range(1, 3000))}, r"has [\d,]+ arms. A study can have 1,000 at most"),
        ({"seeds": 1000, "batch_size": list(range(1, 12))}, "A study can have 10,000 at most"),
        ({"title": "x" * 5000}, "title must be text of at most 1,000 characters"),
    ],
)
def test_what_nobody_can_mean_is_refused_quickly(options: dict[str, Any], said: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=said):
        make_plan(Request.of(arms="none", **options))
    assert time.process_time() - started < 2


def test_a_grid_to_tune_over_has_bounds() -> None:
    plan = make_plan(Request.of(arms="none"))
    values = ",".join(str(0.001 * k) for k in range(1, 2000))
    with pytest.raises(InputError, match="1,000 are the most"):
        make_search(f"lr={values}", plan)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds = 1000000000\n", "seeds must be at most 1,000"),
        ("title = 5\n", "title must be text"),
        ("title = 1979-05-27\n", "title must be text"),
        (f"[grid]\nlr = {list(range(1, 10_001))}\n", "10,000 arms"),
        ("[grid]\nnorm = ['../x']\n", "cannot be the name of an arm"),
        (".".join("a" * 50_000) + " = 1\n", "a key has more than 20 parts"),
        ("x = " + "[" * 5000 + "]" * 5000, "cannot be read"),
        ("x = " + "9" * 100_000, "cannot be read"),
    ],
)
def test_a_strangers_grid_is_refused_quickly(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(InputError, match=said):
        make_plan(Request.of(str(path)))
    assert time.process_time() - started < 2


def test_a_pipe_as_a_grid_or_a_record_does_not_hang(study: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "grid.toml")
    with pytest.raises(InputError, match="is a pipe, not a file"):
        make_plan(Request.of(str(tmp_path / "grid.toml")))
    (study / "data.json").unlink()
    os.mkfifo(study / "data.json")
    with pytest.raises(InputError, match="is a pipe, not a file"):
        read_results(study)


def test_a_name_of_a_picture_that_is_no_text_is_refused(study: Path) -> None:
    names = np.full(1, 0x110000, "u4").view("U1")
    write_arrays(study / "hardest.npz", {"name": names, "pixels": np.zeros((1, 8, 8, 3), "u1")})
    with pytest.raises(InputError, match="a name is not text"):
        read_pictures(study)


def test_the_largest_study_can_be_read_back(tmp_path: Path) -> None:
    arms = {f"bn,batch_size={k}": {"norm": "bn", "batch_size": k} for k in range(1, MOST_ARMS + 1)}
    question = {"arms": arms, "seeds": list(range(10)), "varied": ["norm", "batch_size"],
                "data": {}, "run": RunConfig().to_dict(), "title": "x" * 1000}  # fmt: skip
    question["run"] = {k: v for k, v in question["run"].items() if k not in ("norm", "seed")}
    write_question(tmp_path, question)
    assert list(read_question(tmp_path)["arms"]) == list(arms)


def test_data_of_a_run_that_has_unknown_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'sauce' is not a setting of data"):
        recorded_data(tmp_path, {"source": "digits", "sauce": 1})
