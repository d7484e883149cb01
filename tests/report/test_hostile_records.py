"""Studies from strangers: whatever a record says, there is one message or a report that is sane."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import vl_convert

from mutations import mutated
from normlab.errors import InputError
from normlab.files import write_json
from normlab.report import write_report
from normlab.report.vega import picture
from normlab.results import read_results
from normlab.runs.same_function import Largest, SameFunction, write_same_function

from .folders import make_study

MUTANTS = 5
"""Of each record. ``benchmarks/torture`` tries thousands."""
RECORDS = {
    "question": "study.toml",
    "data": "data.json",
    "run": "runs/gn/seed-1/run.json",
    "tuning": "tuning/lr/tuning.json",
    "trials": "tuning/lr/trials/study.toml",
    "trial": "tuning/lr/trials/runs/gn,lr=0.1/seed-1000/run.json",
    "check": "checks/same-function/gn.json",
}
NOT_TEXT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e]"
)
NO_NUMBER = re.compile(r"(?<![\w:\"'-])[-+−]?(nan|inf|Infinity)(?![\w\"'])")


def _written(content: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null."""
    return {k: _written(v) if isinstance(v, dict) else v for k, v in content.items()
            if v is not None}  # fmt: skip


def write_record_of(path: Path, content: dict[str, Any]) -> None:
    """Write a record again, as its own kind of file and without a seal.

    Raises:
        ValueError, TypeError: no such file can say this.
    """
    if path.suffix == ".toml":
        path.write_text(tomli_w.dumps(_written(content)), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


def make_everything(folder: Path) -> Path:
    """A small study that has every kind of record, with every field that may be there."""
    finding = {"check": "copies", "level": "look at this", "sentence": "Two.", "advice": "Look."}
    make_study(
        folder, arms=("bn", "gn"), epochs=2, classes=("a", "b", "c"), predictions=True,
        features=True, data={"findings": [finding], "skipped": {"a.png": "cut short"}},
    )  # fmt: skip
    path = folder / "study.toml"
    call = {
        "command": "normlab compare", "until_decided": False, "arms": 2, "seeds": 3,
        "fewest_seeds": 2, "runs_before": 0, "date": "2026-01-01", "normlab": "0.1.0",
    }  # fmt: skip
    more = {
        "verdict": {
            "reference": "bn", "margin": 0.5, "level": 0.95, "looks": [3, 5],
            "before": [{"reference": "gn", "margin": 1.0, "runs": 2}],
            "looked": [3], "grown": [2], "edited": ["gn"], "target": 80.0,
            "retargeted": [{"target": 75.0, "runs": 2}],
        },
        "fewer_seeds": {"gn": 2},
        "calls": [call, {**call, "runs_before": 3}],
        "commands": ["normlab compare"],
        "same_function": [["bn", "gn"]],
        "tuning": [
            {"field": "lr", "shared": "0.02", "values": ["0.02", "0.1"], "seeds": [1000, 1001],
             "arms": ["bn", "gn"], "study_seeds": 3,
             "fewest_seeds": 2, "until_decided": False}
        ],
    }  # fmt: skip
    write_record_of(path, {**tomllib.loads(path.read_text()), **more})
    below = folder / "tuning/lr"
    points = {f"{a},lr={v}": {"norm": a, "lr": v} for a in ("bn", "gn") for v in (0.02, 0.1)}
    make_study(below / "trials", arms=points, seeds=(1000, 1001), epochs=1)
    make_study(below / "tuned", arms={n: points[n] for n in ("bn,lr=0.02", "gn,lr=0.1")}, epochs=1)
    choices = [
        {"arm": arm, "value": value, "name": f"{arm},lr={value}", "edge": "", "failed": False}
        for arm, value in (("bn", 0.02), ("gn", 0.1))
    ]
    stated = {"field": "lr", "shared": 0.02, "grid": [0.02, 0.1], "values": [0.02, 0.1],
              "seeds": [1000, 1001], "limit": "", "choices": choices}  # fmt: skip
    write_json(below / "tuning.json", stated)
    largest = {"loss": Largest(1e-12, "loss", 3, None), "weights": Largest(1.0, "conv1", 2, 1)}
    found = SameFunction("bn", "gn", 20, largest, {"loss": 1e-6}, bfloat16={"output": 1.0})
    write_same_function(folder, found, "hash")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_everything(tmp_path_factory.mktemp("hostile") / "study")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are checked and not drawn: drawing takes most of the time."""

    def checked(spec: Any, **_: Any) -> Any:
        text = json.dumps(spec, allow_nan=False, ensure_ascii=False)
        assert not NOT_TEXT.search(text)
        return spec

    monkeypatch.setattr(vl_convert, "vegalite_to_vega", checked)
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda spec, **_: str(checked(spec))[:9])
    monkeypatch.setattr(vl_convert, "svg_to_png", lambda *_, **__: b"")


@pytest.fixture
def changed(study: Path) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Write a record otherwise, for the time of a test."""
    kept: dict[Path, bytes] = {}

    def change(name: str, content: dict[str, Any]) -> None:
        path = study / RECORDS[name]
        kept.setdefault(path, path.read_bytes())
        write_record_of(path, content)

    yield change
    for path, content in kept.items():
        path.write_bytes(content)


def content_of(study: Path, name: str) -> dict[str, Any]:
    path = study / RECORDS[name]
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    found.pop("sha256", None)
    return found


def outcome(folder: Path, what: str) -> str:
    """``refused`` or ``reported``; anything else is an error.

    Raises:
        AssertionError: a message of several lines, or a report with what no report may have.
    """
    message, files = "", None
    try:
        files = write_report(read_results(folder))
    except InputError as error:
        message = str(error)
    if files is None:
        assert 0 < len(message) < 1000, what
        assert not NOT_TEXT.search(message), what
        assert "\n" not in message, what
        return "refused"
    page = files.html.read_text(encoding="utf-8")
    for text in (page, *(p.read_text(encoding="utf-8") for p in (files.markdown, *files.tables))):
        assert not NOT_TEXT.search(text), what
        if "'nan'" not in what and "'inf'" not in what:  # a name may be that
            body = re.sub(r"(?s)<(script|style).*?</\1>", "", text)
            assert not NO_NUMBER.search(body), what
    return "reported"


@pytest.mark.usefixtures("undrawn")
def test_the_study_is_one(study: Path) -> None:
    """Else the tests below would mutate what is refused anyway."""
    assert outcome(study, "") == "reported"
    page = (study / "report.html").read_text(encoding="utf-8")
    for said in ("The rule was changed", "was built by 2 calls", "Shared and tuned", "cut short"):
        assert said in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_with_one_thing_wrong_is_refused_or_reported(
    name: str, study: Path, changed: Callable[[str, dict[str, Any]], None]
) -> None:
    ends = []
    for what, content in mutated(content_of(study, name), MUTANTS, seed=0):
        try:
            changed(name, content)
        except (ValueError, TypeError):
            continue  # no such file can be
        ends.append(outcome(study, what))
    assert ends.count("refused") > MUTANTS / 5


def every_hidden_character() -> str:
    """All that a chart, a page or a terminal must not be given, as it may be in a name."""
    ends = [plane + end for plane in range(0, 0x110000, 0x10000) for end in (0xFFFE, 0xFFFF)]
    turns = [0x061C, 0x200B, *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    codes = [*range(0x20), *range(0x7F, 0xA0), *turns, *range(0xFDD0, 0xFDF0), 0xFEFF, *ends]
    return "".join(map(chr, codes))


def test_a_study_whose_names_have_every_hidden_character_is_drawn(tmp_path: Path) -> None:
    """Nothing is stubbed here: the renderer ends the whole process at some of them."""
    hidden = every_hidden_character()
    classes = [f"{name}{hidden}" for name in "abc"]
    folder = make_study(
        tmp_path / "study", arms=("bn",), seeds=2, epochs=2, classes=classes, predictions=True,
        features=True, title=f"Title {hidden}",
        data={"notes": [hidden], "name": hidden, "source": hidden, "skipped": {hidden: hidden}},
    )  # fmt: skip
    (folder / "study.toml").write_text(
        tomli_w.dumps({**tomllib.loads((folder / "study.toml").read_text()), "what": hidden})
    )
    files = write_report(read_results(folder))
    texts = [files.html, files.markdown, *files.tables, *(f for f in files.figures
                                                         if f.suffix == ".svg")]  # fmt: skip
    for path in texts:
        text = path.read_bytes().decode()
        found = sorted({hex(ord(c)) for c in set(hidden) - set("\n\t") if c in text})
        assert not found, path
    assert "a\\x00\\x01" in files.html.read_text(encoding="utf-8")


def test_a_chart_has_no_text_that_ends_the_renderer() -> None:
    hidden = every_hidden_character() + "\ud800\udfff"
    spec = {
        "title": hidden,
        "data": {"values": [{"a": hidden, "b": 1}]},
        "mark": "text",
        "config": {"aria": False},  # as all charts have it: a description would be an expression
        "encoding": {
            "y": {"field": "a", "type": "nominal", "title": hidden},
            "text": {"field": "a"},
            "color": {"field": "a", "type": "nominal", "scale": {"domain": [hidden]}},
        },
    }
    svg, png = picture(spec)
    assert not set(svg) & set(hidden) - set("\n\t")
    assert png.startswith(b"\x89PNG")
