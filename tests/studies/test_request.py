"""One declaration of what a comparison is asked, for Python, the command line and the record."""

from __future__ import annotations

import inspect
import shlex
from typing import Any

import pytest

import normlab
from normlab.cli import app
from normlab.data import DataConfig
from normlab.errors import InputError
from normlab.options import fields_of
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
        for name in ("out", "workers", "device", "dry_run", "watcher", "call"):
            given.pop(name)
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
