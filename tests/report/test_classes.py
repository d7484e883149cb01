"""Classes and images on the page: numbers where they belong, whatever is missing or odd."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from normlab.report import Report, ReportFiles, write_report
from normlab.report.sections.classes import ClassesSection, class_scores, hard_images, matrix
from normlab.results import Results, class_f1, confusion, hardest, read_results

from .folders import ARMS, follow, make_study, write_pictures


def _payload(report: ReportFiles) -> dict[str, object]:
    text = report.html.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)
    assert found
    return dict(json.loads(found[1])["sections"])


def _section(report: ReportFiles) -> str:
    text = report.html.read_text(encoding="utf-8")
    return text.split('aria-labelledby="h-classes">')[1].split("</section>")[0]


def test_the_page_draws_the_confusion_of_every_arm(
    main_study: Results, main_report: ReportFiles
) -> None:
    drawn = _payload(main_report)["classes"]
    assert isinstance(drawn, dict)
    assert list(drawn["arms"]) == list(ARMS)
    for arm in ARMS:
        counts = np.zeros((10, 10), int)
        for t, p, count in np.reshape(drawn["arms"][arm]["cells"], (-1, 3)):
            counts[t, p] = count
        assert np.array_equal(counts, confusion(main_study, arm))
        wrong = counts.sum() - counts.trace()
        assert f"was wrong {wrong} of 813 times" in drawn["arms"][arm]["label"]
        off = np.where(np.eye(10, dtype=bool), 0, counts)
        t, p = np.unravel_index(off.argmax(), off.shape)
        assert (
            f"took {t} for {p} ({off[t, p]} of {counts[t].sum()} times)"
            in (drawn["arms"][arm]["label"])
        )


def test_shares_are_of_the_true_class(main_study: Results) -> None:
    counts = confusion(main_study, "bn")
    for row in matrix.rows(main_study, "bn"):
        assert row["count"] == counts[row["t"], row["p"]] > 0
        assert row["share"] == pytest.approx(row["count"] / counts[row["t"]].sum())
        assert (row["true"], row["predicted"]) == (str(row["t"]), str(row["p"]))


def test_the_table_names_the_class_that_most_arms_find_hard(tmp_path: Path) -> None:
    folder = make_study(
        tmp_path / "study", arms=("bn", "gn"), seeds=2, epochs=1, classes=("ant", "bee", "cow"),
        predictions=True,
    )  # fmt: skip
    for path in folder.rglob("predictions.npz"):
        with np.load(path) as held:
            content = dict(held)
        # Every second bee is taken for a cow, every fourth cow for an ant.
        guesses = content["test_label"].copy()
        guesses[np.flatnonzero(guesses == 1)[::2]] = 2
        guesses[np.flatnonzero(content["test_label"] == 2)[::4]] = 0
        content["test_probabilities"] = np.eye(3, dtype="f4")[guesses]
        np.savez(path, **content)
        follow(path.parent)
    results = read_results(folder)
    found = class_scores.hardness(results)
    assert found.says == "bee is the hardest class: its F1 is the lowest in both arms."
    assert found.hard == {1}
    assert found.least == (0, 2, 0)
    rows = class_scores.page_table(results).rows
    shades = [float(row[1].attributes["style"].split(":")[1]) for row in rows]
    assert (shades[0], shades[1]) == (0, 1)
    assert 0 < shades[2] < 1
    assert [row[3].text for row in rows] == ["", "2 arms", ""]
    for index, row in enumerate(rows):
        spread = class_f1(results, "bn")[index]
        assert spread is not None
        assert row[1].text == f"{100 * spread.mean:.1f}"
        assert row[1].small == "± 0.0"


def test_markdown_has_the_mean_and_spread_of_every_class(
    main_study: Results, main_report: ReportFiles
) -> None:
    text = main_report.markdown.read_text(encoding="utf-8")
    table = text.split("### F1 by class\n\n")[1].split("\n\n")[0].splitlines()
    assert table[0] == "| class | " + " | ".join(f"`{arm}`" for arm in ARMS) + " |"
    assert len(table) == 12
    for index, line in enumerate(table[2:]):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == str(index)
        for arm, cell in zip(ARMS, cells[1:], strict=True):
            spread = class_f1(main_study, arm)[index]
            assert spread is not None
            assert cell == f"{100 * spread.mean:.1f} ± {100 * (spread.sd or 0):.1f}"


def test_figures_of_every_arm(main_report: ReportFiles) -> None:
    names = {path.name for path in main_report.figures}
    for arm in ARMS:
        assert {f"confusion-{arm}.svg", f"confusion-{arm}.png"} <= names
    assert {"f1-by-class.svg", "f1-by-class.png"} <= names
    folder = main_report.figures[0].parent
    drawn = (folder / "confusion-bn.svg").read_text(encoding="utf-8")
    assert "predicted class" in drawn
    assert "bn: test images of 3 runs" in drawn


def test_seven_arms_take_no_longer_than_promised(main_study: Results) -> None:
    ClassesSection().figures(Report(main_study))  # vl-convert starts
    began = time.process_time()
    ClassesSection().figures(Report(main_study))
    assert time.process_time() - began < 3


def test_the_hardest_images_with_their_pixels(tmp_path: Path) -> None:
    folder = make_study(
        tmp_path / "study", arms=("bn", "gn:groups=4"), epochs=1, predictions=True
    )  # fmt: skip
    hard = hardest(read_results(folder))
    names = write_pictures(folder)
    assert len(names) > hard_images.FIRST
    report = write_report(read_results(folder))
    text = _section(report)
    assert "figures/confusion-gn,groups=4.svg" in text
    assert (folder / "figures/confusion-gn,groups=4.svg").is_file()
    assert text.count('<img src="data:image/png;base64,') == len(names)
    places = [text.index(f'alt="Test image {name}"') for name in names]
    assert places == sorted(places)
    assert f"<summary>{len(names) - hard_images.FIRST} more</summary>" in text
    first = hard[0]
    card = text.split('<ul class="cards">')[1].split("</details>")[0]
    assert f"<strong>{first.label}</strong>, mistaken for {first.taken_for[0][0]} " in card
    assert f"{first.wrong} of 6 runs wrong" in card
    assert f"bn: {first.arms['bn'].wrong} of 3" in card
    assert "only their names" not in text


@pytest.mark.parametrize("damaged", [False, True])
def test_without_pixels_the_images_are_named(tmp_path: Path, damaged: bool) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), epochs=1, predictions=True)
    if damaged:
        (folder / "hardest.npz").write_bytes(b"PK no archive")
    text = _section(write_report(read_results(folder)))
    assert "<img" not in text
    assert hardest(read_results(folder))[0].name in text
    assert ("cannot be read" in text) is damaged
    assert ("only their names" in text) is not damaged


def test_runs_without_predictions_are_named(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn", "gn"), seeds=2, epochs=1, predictions=True)
    for seed in range(2):
        (folder / f"runs/gn/seed-{seed}/predictions.npz").unlink()
    (folder / "runs/bn/seed-1/predictions.npz").write_bytes(b"")
    report = write_report(read_results(folder))
    text = _section(report)
    assert "Without predictions: gn." in text
    assert "gn, seed 0: predictions.npz is missing" in text
    assert re.search(r"bn, seed 1: \S+predictions\.npz cannot be read", text)
    assert "Over its one run bn was wrong" in text
    assert not (folder / "figures/confusion-gn.svg").exists()
    assert "Left out: gn, seed 0" in report.markdown.read_text(encoding="utf-8")


def test_no_predictions_at_all(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), epochs=1)
    report = write_report(read_results(folder))
    assert "left predictions, so nothing can be said" in _section(report)
    assert "classes" not in _payload(report)
    assert "F1 by class" not in report.markdown.read_text(encoding="utf-8")
    assert not list((folder / "figures").glob("confusion-*"))


def test_all_told_right(tmp_path: Path) -> None:
    folder = make_study(tmp_path / "study", arms=("bn",), seeds=1, epochs=1, predictions=True)
    path = folder / "runs/bn/seed-0/predictions.npz"
    with np.load(path) as held:
        content = dict(held)
    content["test_probabilities"] = np.eye(10, dtype="f4")[content["test_label"]]
    np.savez(path, **content)
    follow(path.parent)
    text = _section(write_report(read_results(folder)))
    assert "bn mistook no test image for another class" in text
    assert "No run mistook a test image for another class." in text
    assert "Every class has the same F1 in every arm." in text


def test_many_classes_are_folded_and_stay_small(tmp_path: Path) -> None:
    names = [f"White-Breasted-Kingfisher-{k:03}" for k in range(100)]
    folder = make_study(
        tmp_path / "study", arms=("bn", "gn"), seeds=1, epochs=1, classes=names, predictions=True
    )
    results = read_results(folder)
    drawn = matrix.spec(results)
    assert drawn["height"] <= 800
    assert len(drawn["layer"]) == 1  # no counts in cells of 7 pixels
    assert len(json.dumps(ClassesSection().payload(Report(results)))) < 200_000
    assert ClassesSection().context(Report(results))["folded"]


def test_odd_names_are_harmless(odd_study: Results, odd_report: ReportFiles) -> None:
    drawn = _payload(odd_report)["classes"]
    assert isinstance(drawn, dict)
    assert drawn["classes"] == odd_study.data["classes"]
    assert "<b>cat" not in _section(odd_report)


def test_the_table_in_latex(main_study: Results, main_report: ReportFiles) -> None:
    text = (main_report.html.parent / "f1-by-class.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 10
    assert {row.count(" & ") for row in rows} == {7}
    spread = class_f1(main_study, "bn")[3]
    assert spread is not None
    assert spread.sd is not None
    cell = rf"{100 * spread.mean:.1f} $\pm$ {100 * spread.sd:.1f}"
    assert rows[4].split(" & ")[2] == cell
    assert r"torch\_bn" in rows[0]


def test_an_arm_whose_classes_are_equally_hard_has_no_hardest(tmp_path: Path) -> None:
    folder = make_study(
        tmp_path / "study", arms=("bn", "gn", "ln"), seeds=1, epochs=1,
        classes=("ant", "bee", "cow"), predictions=True,
    )  # fmt: skip
    wrong = {"bn": [1], "gn": [], "ln": []}
    for path in folder.rglob("predictions.npz"):
        with np.load(path) as held:
            content = dict(held)
        guesses = content["test_label"].copy()
        for label in wrong[path.parents[1].name]:
            guesses[np.flatnonzero(guesses == label)[::2]] = 2
        content["test_probabilities"] = np.eye(3, dtype="f4")[guesses]
        np.savez(path, **content)
        follow(path.parent)
    results = read_results(folder)
    found = class_scores.hardness(results)
    assert found.least == (0, 1, 0)
    assert found.says == "bee is the hardest class: its F1 is the lowest in 1 of the 3 arms."
    framed = [
        [cell.attributes.get("class") for cell in row[1:4]]
        for row in class_scores.page_table(results).rows
    ]
    assert framed == [["", "", ""], ["least", "", ""], ["", "", ""]]
