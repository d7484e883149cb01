"""The page as text: complete, in order, harmless, and one file."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import vl_convert

from normlab.files import write_json
from normlab.report import ReportFiles, page, write_report
from normlab.results import Results, read_curves, read_results

from .folders import ARMS, CLASSES, make_study


class _Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.content = ""
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(str(dict(attrs).get("id")))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)
        elif self._inside[-1] == "content":
            self.content += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _page(report: ReportFiles) -> _Page:
    return _Page(report.html.read_text(encoding="utf-8"))


def test_content_in_order(main_study: Results, main_report: ReportFiles) -> None:
    text = _page(main_report).text
    places = [
        text.index(said)
        for said in (
            "The answer",
            "hold simultaneously (95 %)",
            "7 arms × 3 seeds",
            "1,251 / 271 / 271",
            "14 weight layers",
            "Test accuracy, run by run",
            "Results",
            "micro F1 equals accuracy",
            "Difference to bn",
            "Each arm compared with bn, paired over seeds",
            "Curves",
            "Training loss",
            "Validation macro F1",
            "What the curves say",
            "more than 0.5 points",
            "What each arm gets wrong",
            "F1 by class",
            "The images most arms get wrong",
            "Cost and accuracy",
            "The source has no splits",
            "How to repeat it",
            "normlab compare norms --data digits",
            "GroupNorm2d(C, groups=8",
            "Limits",
            "3 seeds per arm",
            "The budget was 320 updates per run on 1,251 training images of 8 × 8 pixels",
            "One learning rate (0.02) is shared by all arms",
            "Files next to this page",
        )
    ]
    assert places == sorted(places)
    for arm in ARMS:
        trend = read_curves(main_study, arm).trend
        assert trend[1:] in text
    for name in CLASSES:
        assert name in text
    assert "5 × " not in text  # layers that differ in their channels alone are one
    assert "13 × " in text


def test_structure(main_report: ReportFiles) -> None:
    page = _page(main_report)
    names = [tag for tag, _ in page.tags]
    assert names.count("main") == names.count("header") == names.count("footer") == 1
    assert names.count("h1") == 1
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    charts = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(charts) == 12
    assert all(len(str(attrs["aria-label"])) > 40 for attrs in charts)
    assert ("html", {"lang": "en"}) in page.tags
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_one_file_without_addresses(main_report: ReportFiles) -> None:
    assert main_report.html.stat().st_size < 2_000_000
    for tag, attrs in _page(main_report).tags:
        assert tag not in ("link", "iframe", "object", "base")
        if tag == "img":
            assert str(attrs.pop("src")).startswith("data:image/png;base64,")
            assert attrs["alt"]
        assert "src" not in attrs
        target = attrs.get("href")
        if target is not None and not str(target).startswith("#"):
            assert (main_report.html.parent / target).exists(), target


def test_the_same_runs_give_the_same_page(study_folder: Path) -> None:
    results = read_results(make_study(study_folder, arms=("bn",), seeds=1, epochs=2))
    first = {path: path.read_bytes() for path in _files(write_report(results))}
    assert {path: path.read_bytes() for path in _files(write_report(results))} == first
    assert {p.name for p in study_folder.iterdir()} == {
        "study.toml", "data.json", "runs", "results.csv", "results.md", "results.tex", "cost.tex",
        "figures", "report.html", "time-to-target.csv",
    }  # fmt: skip


def _files(report: ReportFiles) -> list[Path]:
    return [report.csv, report.markdown, report.latex, report.html, *report.figures]


def test_runs_without_a_model_are_told(hurt_report: ReportFiles) -> None:
    text = _page(hurt_report).text
    warning = text.index("Not every run ended with a model")
    assert warning < text.index("Results")
    assert "seed 1 diverged at step 97, seed 2 diverged at step 101" in text
    assert "No run of this arm ended with a model." in text
    assert "Losses above" in text
    assert "0 (3 of 3 diverged)" in text


def test_odd_names_are_harmless(odd_study: Results, odd_report: ReportFiles) -> None:
    text = odd_report.html.read_text(encoding="utf-8")
    page = _Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert not {"i", "b", "img", "red"} & {tag for tag, _ in page.tags}
    content = json.loads(page.content)
    assert [arm["name"] for arm in content["arms"]] == list(odd_study.arms)
    for name in (*odd_study.arms, *odd_study.data["classes"], *odd_study.data["notes"]):
        assert " ".join(name.split()) in page.text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_a_way_that_all_splits_have_is_said_once(study_folder: Path) -> None:
    said = "a clean split (kept in split.json)"
    make_study(study_folder, arms=("bn",), seeds=1, epochs=1,
               data={"split_policy": dict.fromkeys(("train", "val", "test"), said)})  # fmt: skip
    assert _page(write_report(read_results(study_folder))).text.count(said) == 1


def test_optional_keys_may_be_missing(study_folder: Path) -> None:
    make_study(
        study_folder,
        arms=("bn",),
        seeds=1,
        epochs=1,
        data=dict.fromkeys(
            ("counts", "images", "image_size", "channels", "resize_rule", "split_policy",
             "split_seed", "mean", "std", "skipped", "notes", "name", "kind", "classes")
        ),
    )  # fmt: skip
    for path in study_folder.rglob("run.json"):
        record = json.loads(path.read_text())
        for name in ("sites", "versions", "hardware", "parameters", "seconds", "chosen_epoch",
                     "written"):  # fmt: skip
            del record[name]
        write_json(path, record)
    report = write_report(read_results(study_folder))
    assert "One seed per arm" in _page(report).text


def test_many_arms_and_classes_stay_small(study_folder: Path) -> None:
    arms = {
        f"{norm},lr={lr}": {"norm": norm, "lr": lr}
        for norm in ARMS
        for lr in (0.01, 0.03, 0.1, 0.3)
    }
    classes = [f"class {index:03}" for index in range(200)]
    make_study(study_folder, arms=arms, seeds=3, epochs=60, classes=classes)
    results = read_results(study_folder)
    from normlab.report import Report
    from normlab.report.page import render

    text = render(Report(results))
    assert len(text.encode()) < 4_000_000
    assert "<details><summary>Images of each of the 200 classes" in text
    assert "One learning rate" not in text


@pytest.mark.parametrize("heavy", ["torch", "altair", "vl_convert", "jinja2"])
def test_light_to_import(heavy: str) -> None:
    code = f"import sys, normlab.report; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_script_of_the_charts_is_bundled_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes a second; what is kept for the next report is compared with what was written."""
    bundled = []

    def bundle(exposed: str) -> str:
        bundled.append(exposed)
        return "draw('</script>')"

    def read() -> str:
        page._bundle.cache_clear()  # as in another process
        return page._bundle()

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    try:
        assert {read(), read()} == {r"draw('<\/script>')"}
        assert len(bundled) == 1
        (kept,) = (cache.parent / "pages").glob("vega-*.json")
        kept.write_bytes(kept.read_bytes().replace(b"draw", b"drew"))
        assert read() == r"draw('<\/script>')"
        assert len(bundled) == 2
        assert "is damaged" in capsys.readouterr().err
    finally:
        page._bundle.cache_clear()
