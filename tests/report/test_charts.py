"""Figures: they exist, they show something, and an arm looks the same everywhere."""

from __future__ import annotations

import dataclasses
import io
import math
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from normlab.report import ReportFiles
from normlab.report.sections import accuracy
from normlab.report.sections.curves import curve_chart as charts
from normlab.report.styles import CATALOGUE, OTHERS, styles
from normlab.report.vega import domain
from normlab.results import Results, read_results

from .folders import ARMS, make_study

CURVES = {
    f"{quantity}-{split}"
    for quantity in ("loss", "accuracy", "micro-f1", "macro-f1")
    for split in ("train", "val")
}

ALONE = {"accuracy-test", "accuracy-by-cost", "differences", "f1-by-class"} | {
    f"confusion-{arm}" for arm in ARMS
}


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    shares = (value / 255 for value in _rgb(colour))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_eight_curves_and_the_runs_as_png_and_svg(main_report: ReportFiles) -> None:
    for suffix in (".png", ".svg"):
        names = {path.stem for path in main_report.figures if path.suffix == suffix}
        assert names == CURVES | ALONE
    assert all(path.parent.name == "figures" and path.is_file() for path in main_report.figures)


def test_the_chart_of_the_runs_is_of_the_test_split(main_study: Results) -> None:
    found = {(row["arm"], row["seed"]): row["value"] for row in accuracy.rows(main_study)}
    assert found == {
        (run.arm, run.seed): 100 * run.record["metrics"]["test"]["accuracy"]
        for run in main_study.runs
    }


def test_pngs_show_every_arm_on_white(main_report: ReportFiles) -> None:
    for path in main_report.figures:
        if path.suffix == ".png":
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            assert min(image.size) > 500
            assert image.getpixel((0, 0)) == (255, 255, 255)
            colours = {colour for _, colour in image.getcolors(1 << 24) or ()}
            for arm in () if path.stem.startswith("confusion-") else ARMS:
                if (path.stem, arm) == ("differences", "bn"):
                    continue  # the reference has no row
                assert _rgb(CATALOGUE[arm].light) in colours, f"{path.name}: {arm}"


def test_svgs_are_xml_that_asks_for_nothing(
    main_report: ReportFiles, odd_report: ReportFiles
) -> None:
    for path in (*main_report.figures, *odd_report.figures):
        if path.suffix == ".svg":
            root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            for element in root.iter():
                assert not element.tag.endswith(("script", "image"))
                assert not any(name.endswith("href") for name in element.attrib)


def test_legend_names_every_arm(main_report: ReportFiles, odd_report: ReportFiles) -> None:
    for report in (main_report, odd_report):
        path = next(p for p in report.figures if p.name == "accuracy-val.svg")
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        texts = ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]
        for arm in read_results(report.csv.parent).arms:
            assert arm in texts or any(t.endswith("…") and arm.startswith(t[:-1]) for t in texts)


def test_mean_and_seeds(main_study: Results) -> None:
    drawn = charts.lines(main_study)
    for arm in ARMS:
        mean = next(line for line in drawn if line.arm == arm and line.seed is None)
        for epoch in range(1, 9):
            found = mean.values["val", "accuracy"][epoch - 1]
            values = [
                100 * row["accuracy"]
                for run in main_study.of_arm(arm)
                for row in run.history
                if row["split"] == "val" and row["epoch"] == epoch
            ]
            assert len(values) == 3
            assert found == pytest.approx(statistics.fmean(values))


def test_runs_that_ended_early_are_drawn_as_far_as_they_go(hurt_study: Results) -> None:
    drawn = charts.lines(hurt_study)
    cut = {(line.arm, line.seed): line.epochs for line in drawn if line.cut}
    assert cut == {
        **{("gn", seed): (1, 2, 3) for seed in (1, 2)},
        **{("none", seed): (1, 2, 3) for seed in (0, 1, 2)},
        ("ln", 2): (1, 2, 3),
    }
    rows = charts.rows(drawn, "val", "loss")
    assert {(row["line"], row["epoch"]) for row in rows if row["end"]} == {
        (f"{arm} {seed}", 3) for arm, seed in cut
    }
    # The mean is over complete runs; where an arm has none, over those that got as far.
    gn = next(line for line in drawn if line.arm == "gn" and line.seed is None)
    only = next(line for line in drawn if line.arm == "gn" and line.seed == 0)
    assert gn.values == only.values
    none = next(line for line in drawn if line.arm == "none" and line.seed is None)
    assert none.epochs == (1, 2, 3)


def test_values_that_are_not_finite_are_left_out(study_folder: Path) -> None:
    make_study(study_folder, arms=("bn",), seeds=1, ends={("bn", 0): "diverged at step 90"})
    path = study_folder / "runs" / "bn" / "seed-0" / "history.csv"
    text = path.read_text()
    assert ",400.0," in text
    path.write_text(text.replace(",400.0,", ",nan,"))
    drawn = charts.lines(read_results(study_folder))
    assert {row["epoch"] for row in charts.rows(drawn, "val", "loss")} == {1, 2}
    assert {row["epoch"] for row in charts.rows(drawn, "val", "accuracy")} == {1, 2, 3}
    assert all(math.isfinite(row["value"]) for row in charts.rows(drawn, "val", "loss"))


def test_a_diverging_loss_does_not_flatten_the_others(
    hurt_study: Results, main_study: Results
) -> None:
    drawn = charts.lines(hurt_study)
    ceiling = charts.loss_is_cut(drawn)
    assert ceiling is not None
    assert ceiling < 10
    assert domain(charts.extents(drawn)["loss"])[1] <= ceiling
    assert charts.loss_is_cut(charts.lines(main_study)) is None


def test_training_and_validation_share_an_axis(main_study: Results) -> None:
    drawn = charts.lines(main_study)
    low, high = domain(charts.extents(drawn)["accuracy"])
    values = [
        row["value"] for split in ("train", "val") for row in charts.rows(drawn, split, "accuracy")
    ]
    assert (low, high) == (min(values), max(values))


def _with_arms(results: Results, *arms: str) -> Results:
    question = {
        **results.question,
        "arms": {arm: {"norm": arm.split(",")[0]} for arm in arms},
    }
    return dataclasses.replace(results, question=question, arms=arms)


def test_an_arm_looks_the_same_in_every_study(main_study: Results) -> None:
    assert styles(main_study) == {arm: CATALOGUE[arm] for arm in ARMS}
    few = styles(_with_arms(main_study, "none", "pack.mod:Mine", "bn", "gn:groups=4"))
    assert few["none"] == CATALOGUE["none"]
    assert few["bn"] == CATALOGUE["bn"]
    assert few["gn:groups=4"] == CATALOGUE["gn"]
    assert few["pack.mod:Mine"] == OTHERS[0]


@pytest.mark.parametrize(
    "arms",
    [
        ARMS,
        [f"{norm},batch_size={size}" for norm in ("bn", "gn") for size in (2, 8, 32, 128)],
        [f"{norm},lr={lr}" for norm in ARMS for lr in (0.01, 0.03, 0.1, 0.3)],
        ["gn", *(f"gn:groups={groups}" for groups in (1, 2, 4, 16))],
        [f"pack.mod:Layer{index}" for index in range(5)],
    ],
)
def test_arms_can_be_told_apart_on_light_and_dark(main_study: Results, arms: list[str]) -> None:
    found = styles(_with_arms(main_study, *arms))
    assert list(found) == list(arms)
    for ground, tones in (
        ("#ffffff", [style.light for style in found.values()]),
        ("#15181d", [style.dark for style in found.values()]),
    ):
        assert len(set(tones)) == len(tones)
        assert min(_contrast(tone, ground) for tone in tones) >= 2.5
    if arms is ARMS:
        assert min(_contrast(style.light, "#ffffff") for style in found.values()) >= 3
        assert len({style.dash for style in found.values()}) == len(arms)


def test_one_epoch_and_one_seed_still_show_a_point(study_folder: Path) -> None:
    results = read_results(make_study(study_folder, arms=("bn",), seeds=1, epochs=1))
    _, png = charts.figures(results)["accuracy-val"]
    with Image.open(io.BytesIO(png)) as opened:
        colours = {colour for _, colour in opened.convert("RGB").getcolors(1 << 24) or ()}
    assert _rgb(CATALOGUE["bn"].light) in colours


@pytest.mark.parametrize(
    ("epochs", "labels"),
    [
        (1, [1]),
        (2, [1, 2]),
        (8, list(range(1, 9))),
        (30, [1, 5, 10, 15, 20, 25, 30]),
        (200, [1, *range(20, 201, 20)]),
    ],
)
def test_epochs_are_labelled_by_whole_numbers(
    main_study: Results, epochs: int, labels: list[int]
) -> None:
    layer = charts.curve_spec(main_study, epochs)["layer"][0]
    assert layer["encoding"]["x"]["axis"]["values"] == labels
