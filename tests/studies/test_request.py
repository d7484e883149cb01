"""One declaration of what a comparison is asked, for Python, the command line and the record."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import normlab
from normlab.cli import app
from normlab.data import DataConfig
from normlab.data.decode import FORMATS
from normlab.errors import InputError
from normlab.norms import CATALOG, BatchNorm2d, GroupNorm2d, make_norm
from normlab.options import fields_of, names_in
from normlab.runs import FIELDS
from normlab.studies import Request, make_plan
from normlab.studies.request import DATA_FIELDS, REQUEST_FIELDS, SETTINGS


def test_python_names_and_describes_every_option() -> None:
    parameters = inspect.signature(normlab.compare).parameters
    for name, f in {**REQUEST_FIELDS, **DATA_FIELDS, **SETTINGS}.items():
        if name in ("what", "source"):
            continue
        assert name in parameters
        assert f.metadata["help"] in str(normlab.compare.__doc__)
    assert list(parameters)[:2] == ["what", "data"]


def test_the_command_line_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    app(["compare", "--help"], exit_on_error=False, result_action="return_value")
    said = capsys.readouterr().out
    for name in {**REQUEST_FIELDS, **DATA_FIELDS, **SETTINGS}:
        if name not in ("what", "source"):
            assert f"--{name.replace('_', '-')}" in said


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"arms": "bn,gn:groups=4", "seeds": 5, "margin": 0.25, "reference": "gn:groups=4"},
        {"batch_size": [8, 32], "patience": [None, 2], "budget": ["epochs", "updates"]},
        {"flip": True, "nesterov": False, "step_at": (0.3, 0.6), "schedule": "step"},
        {"data": "two words", "image_size": 32, "skip_bad": True, "val_fraction": 0.2},
        {"what": "sanity", "until_decided": True, "seeds": 8, "tune": "lr=0.01,0.1"},
        {"title": "Mine: 100 %", "clip_norm": 1.0, "lr": 1e-05, "lr_scaling": "none"},
        {"batch_size": [8]},
    ],
)
def test_the_recorded_command_asks_the_same(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Request.of(**options)
    seen: dict[str, Any] = {}

    def catch(what: str, data: Any, **given: Any) -> Any:
        for name in ("out", "workers", "device", "dry_run", "repair", "watcher", "call"):
            given.pop(name)
        assert given.pop("kernels") == asked.settings.get("kernels", "auto")
        seen["request"] = Request.of(what, data, **given)
        raise InputError("caught")

    monkeypatch.setattr(normlab.workflow, "compare", catch)
    words = shlex.split(asked.command())
    with pytest.raises(InputError, match="caught"):
        app(words[1:], exit_on_error=False, print_error=False, result_action="return_value")
    again = seen["request"]
    assert again == asked
    if not asked.data:
        assert make_plan(again).arms == make_plan(asked).arms
        assert make_plan(again).rule == make_plan(asked).rule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, r"'epoch' is not an option of compare \(did you mean epochs\?\)"),
        ({"seed": 3}, "'seed' is not an option of compare"),
        ({"norm": "gn"}, "'norm' is not an option of compare"),
        ({"arms": []}, "arms is empty"),
        ({"split": "s.json", "clean_split": True}, "Give --split or --clean-split, not both"),
    ],
)
def test_requests_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Request.of(**options)


def test_every_setting_is_described_in_a_sentence() -> None:
    for name, f in {**FIELDS, **fields_of(DataConfig), **REQUEST_FIELDS}.items():
        text = f.metadata["help"].split(" [default")[0]
        assert text.endswith((".", ")", "]")), name
        assert text[0].isupper() or text.split()[0].rstrip(",.:") in ("digits", "bfloat16"), name


class Shift(torch.nn.Module):
    """A layer of one's own at the top level of a module."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight[:, None, None]


def test_python_s_own_numpy_s_and_paths_ask_the_same(tmp_path: Path) -> None:
    plain = Request.of(
        "norms", "photos", arms=["bn", "gn"], seeds=2, epochs=3, batch_size=[8, 32], lr=0.5,
        nesterov=True, step_at=[0.5], image_size=16, split="a/split.json", margin=0.5,
    )  # fmt: skip
    asked = Request.of(
        "norms",
        Path("photos"),
        arms=(arm for arm in ("bn", "gn")),
        seeds=np.int64(2),
        epochs=np.int32(3),
        batch_size=np.array([8, 32]),
        lr=np.float64(0.5),
        nesterov=np.bool_(True),
        step_at=np.array([0.5]),
        image_size=np.uint8(16),
        split=Path("a/split.json"),
        margin=np.float64(0.5),
    )
    plan, other = make_plan(plain), make_plan(asked)
    assert other == plan
    assert asked.command() == plain.command()
    for several in ((8, 32), range(8, 40, 24), iter([8, 32])):
        made = make_plan(Request.of("norms", arms=("bn",), batch_size=several))
        assert [config.batch_size for config in made.arms.values()] == [8, 32]
    assert make_plan(Request.of(Path("norms"))).what == "norms"
    for wrong in ({8, 32}, {"a": 8}):
        with pytest.raises(InputError, match="batch_size must be a list"):
            Request.of("norms", batch_size=wrong)
    with pytest.raises(InputError, match="arms must be a list"):
        Request.of("norms", arms={"bn", "gn"})


def test_all_stands_for_every_method() -> None:
    plan = make_plan(Request.of("norms", arms=["gn:groups=4", "all", BatchNorm2dOfMine]))
    mine = f"{__name__}:BatchNorm2dOfMine"
    assert list(plan.arms) == ["gn:groups=4", *CATALOG, mine]
    assert Request.of("norms", arms="all").command() == "normlab compare --arms all"
    with pytest.raises(InputError, match=r"The arm bn is given more than once\. all stands for"):
        make_plan(Request.of("norms", arms="all,bn"))
    with pytest.raises(InputError, match=r"arms torch_bn, .* are given more than once"):
        make_plan(Request.of("norms", arms="all,all"))


class BatchNorm2dOfMine(BatchNorm2d):
    """A layer of one's own."""


def test_a_class_is_an_arm() -> None:
    asked = Request.of("norms", arms=[Shift, BatchNorm2d])
    assert asked.arms == (f"{__name__}:Shift", "bn")
    assert Request.of("norms", arms=(GroupNorm2d, torch.nn.BatchNorm2d)).arms == ("gn", "torch_bn")
    assert Request.of("norms", arms=Shift).arms == (f"{__name__}:Shift",)
    assert list(make_plan(asked).arms) == [f"{__name__}:Shift", "bn"]
    assert isinstance(make_norm(Shift, np.int64(16)), Shift)
    assert make_norm("gn", np.int64(16), groups=np.int64(4)).groups == 4
    assert GroupNorm2d(np.int64(16), np.int64(4), eps=np.float32(0.5)).eps == 0.5
    assert BatchNorm2d(np.int64(16), momentum=np.float64(0.5)).momentum == 0.5


def test_a_class_that_other_processes_cannot_import_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Inner(Shift):
        pass

    for wrong, message in (
        (Inner, "Inner is defined inside a function"),
        (int, "must be a subclass of torch.nn.Module"),
    ):
        with pytest.raises(InputError, match=message):
            Request.of("norms", arms=["bn", wrong])
    monkeypatch.setattr(Shift, "__module__", "__main__")
    for arm in (Shift, "__main__:Shift"):
        with pytest.raises(InputError, match=r"defined in __main__ .*layers:Shift"):
            make_plan(Request.of("norms", arms=["bn", arm]))


def test_names_with_commas_are_found_among_the_known() -> None:
    known = ["ash", "cedar, old", "old", "-x", " y", "a;b"]
    for asked, found in (
        ("ash,cedar, old", ["ash", "cedar, old"]),
        ("cedar, old", ["cedar, old"]),
        ("old, ash", ["old", "ash"]),
        (["cedar, old", "old"], ["cedar, old", "old"]),
        ("-x,a;b; y", ["-x", "a;b", " y"]),
        ("cedar,ash", ["cedar", "ash"]),
        (" , ", []),
    ):
        assert names_in(asked, known) == found


def test_a_folder_in_the_first_place_is_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "norms").mkdir()
    for what in ("photos", Path("photos"), f"{tmp_path}/photos", "./norms", "digits"):
        asked = Request.of(what)
        assert (asked.what, asked.data) == ("norms", {"source": str(what)})
        assert shlex.split(asked.command())[2:] == ["--data", str(what)]
    assert Request.of("norms").data == {}, "the name of a preset is the preset"
    with pytest.raises(InputError, match=r"photos is data, and --data digits was given too"):
        Request.of("photos", "digits")
    (tmp_path / "photos/study.toml").write_text("")
    with pytest.raises(InputError, match=r"is a study, not data.*normlab report photos"):
        Request.of("photos")
    with pytest.raises(InputError, match=r"not a preset.*--data"):
        make_plan(Request.of("fotos"))


def test_what_no_record_could_say_is_refused() -> None:
    with pytest.raises(InputError, match=r"title is not valid Unicode: 'B\\udcc3ume'"):
        Request.of(title="B\udcc3ume")


def test_the_help_names_the_formats_that_are_read() -> None:
    said = DATA_FIELDS["source"].metadata["help"]
    known = {name.replace("JPEG2000", "JPEG 2000") for name in FORMATS if name != "MPO"}
    assert all(name in said for name in known)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ["bn", lambda channels: channels]}, r"arms must be names or classes.*<lambda>"),
        ({"arms": ["bn", 3]}, "arms must be names or classes of layers, got 3"),
        ({"tune": {"lr": [0.01, 0.02]}}, r"tune must be text, got \{'lr': \[0.01, 0.02\]\}"),
        ({"title": 3}, "title must be text, got 3"),
        ({"reference": 3}, "reference must be text, got 3"),
        ({"clean_split": "yes"}, "clean_split must be true or false, got 'yes'"),
        ({"until_decided": 3}, "until_decided must be true or false, got 3"),
        ({"tune_seeds": "two"}, "tune seeds must be a whole number"),
        ({"seeds": "two"}, "seeds must be a whole number"),
        ({"margin": "wide"}, "margin"),
        ({"what": 3}, "what must be text or a path, got 3"),
        ({"data": 3}, "data must be text or a path, got 3"),
        ({"data": ["a", "b"]}, "data must be text or a path"),
        ({"out": 3}, "out must be text or a path, got 3"),
        ({"workers": "two"}, "workers must be a whole number"),
        ({"device": 3}, "device must be auto, cpu or cuda, got 3"),
        ({"split": 3}, "split must be the path of a split file, got 3"),
        ({"group_by": 3}, "group_by must be a regular expression, got 3"),
        ({"augment": {}}, "'augment' is not an option of compare"),
        ({"lr": {}}, "lr must be a list"),
    ],
)
def test_values_of_the_wrong_type_are_said_in_python(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        normlab.compare(**options, dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_told_what_there_is() -> None:
    with pytest.raises(InputError) as refused:
        normlab.compare(nonsense=3)
    said = str(refused.value)
    assert "did you mean" not in said
    names = set(said.split("There are ")[1].rstrip(".").split(", "))
    python = set(inspect.signature(normlab.compare).parameters)
    assert names == python - {"watcher", "call"}
    with pytest.raises(InputError, match="did you mean workers"):
        normlab.compare(worker=3)
