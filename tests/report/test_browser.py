"""The page in a browser: offline, switches, hovering, themes, narrow and wide."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from normlab.report import ReportFiles
from normlab.results import Results, confusion

from .folders import ARMS

if TYPE_CHECKING:
    from playwright.sync_api import Page

OpenPage = Callable[..., tuple["Page", Any]]

pytestmark = pytest.mark.xdist_group("browser")
GRAVE = ("serious", "critical")
STRONG = "path[stroke][stroke-width='2']"


def _strokes(page: Page, chart: str) -> set[str]:
    """Colours of the strong lines in a chart."""
    found = page.eval_on_selector_all(
        f"{chart} svg {STRONG}",
        "paths => paths.map(path => path.getAttribute('stroke'))",
    )
    return set(found)


def widths(page: Page) -> list[float]:
    """Of the plots themselves, without axes."""
    found: list[float] = page.eval_on_selector_all(
        "[role=img] svg g.root > g > path.background",
        "paths => paths.map(path => path.getBoundingClientRect().width)",
    )
    return found


def _wait_for_strong(page: Page, count: int) -> None:
    page.wait_for_function(f'document.querySelectorAll("{VAL} svg {STRONG}").length === {count}')


VAL = "[data-quantity=accuracy][data-split=val]"


@pytest.fixture(scope="module")
def laptop(keep_open: OpenPage, main_report: ReportFiles) -> tuple[Page, Any]:
    """The main report as it opens on a laptop."""
    opened: tuple[Page, Any] = keep_open(main_report.html)
    return opened


@pytest.fixture
def seen(laptop: tuple[Page, Any]) -> tuple[Page, Any]:
    """The same page for all tests that leave it as it was, with the mouse out of the way."""
    page, _ = laptop
    page.mouse.move(5, 5)
    page.locator(".tip").wait_for(state="hidden")
    return laptop


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 768, 1280, 1600])
def test_offline_quiet_and_within_its_width(
    open_page: OpenPage, main_report: ReportFiles, width: int, scheme: str
) -> None:
    page, watch = open_page(main_report.html, width, scheme)
    assert watch.requests == [main_report.html.as_uri()]
    assert watch.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[role=img] svg").count() == 12
    assert min(widths(page)) > 100
    assert len(_strokes(page, VAL)) == len(ARMS)
    shown = page.locator("table.results:visible")
    assert shown.count() == (1 if width >= 1280 else 3)
    for index in range(shown.count()):
        box = shown.nth(index).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    lefts = {
        round(box["x"])
        for box in (chart.bounding_box() for chart in page.locator("[data-quantity]").all())
        if box
    }
    assert len(lefts) == (2 if width >= 1280 else 1)
    assert page.locator("text=Open in Vega").count() == 0


@pytest.mark.parametrize("fixture", ["odd_report", "hurt_report"])
def test_odd_and_hurt_studies_open(
    open_page: OpenPage, request: pytest.FixtureRequest, fixture: str
) -> None:
    report: ReportFiles = request.getfixturevalue(fixture)
    for width in (400, 1280):
        page, watch = open_page(report.html, width)
        assert watch.requests == [report.html.as_uri()]
        assert watch.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_switch_hides_an_arm_in_every_chart(
    open_page: OpenPage, main_report: ReportFiles
) -> None:
    page, watch = open_page(main_report.html)
    charts = [
        f"[data-quantity={quantity}][data-split={split}]"
        for quantity in ("loss", "accuracy", "micro_f1", "macro_f1")
        for split in ("train", "val")
    ]
    before = [_strokes(page, chart) for chart in charts]
    assert all(len(strokes) == 7 for strokes in before)
    page.locator(".switch label", has_text=re.compile("^gn$")).click()
    _wait_for_strong(page, 6)
    gone = {frozenset(a - _strokes(page, c)) for a, c in zip(before, charts, strict=True)}
    assert gone == {frozenset({"#2f7bff"})}
    assert page.locator("#tests svg path[fill='#2f7bff']").count() == 0

    # By keyboard: focus the switch and press space.
    page.locator("input[data-arm=gn]").focus()
    page.keyboard.press("Space")
    _wait_for_strong(page, 7)
    page.get_by_role("button", name="hide all").click()
    _wait_for_strong(page, 0)
    page.get_by_role("button", name="show all").click()
    _wait_for_strong(page, 7)
    assert watch.complaints == []


def test_hovering_tells_arm_epoch_mean_and_seeds(seen: tuple[Page, Any]) -> None:
    page, watch = seen
    chart = page.locator(VAL)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    text = tip.inner_text()
    assert text.split()[0] in ARMS
    assert re.search(r"epoch \d", text)
    assert re.search(r"mean [\d.]+ %", text)
    assert all(re.search(rf"seed {seed} [\d.]+ %", text) for seed in range(3))
    page.mouse.move(5, 5)
    tip.wait_for(state="hidden")

    tests = page.locator("#tests")
    tests.scroll_into_view_if_needed()
    box = tests.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    tip.wait_for(state="visible")
    assert re.search(r"seed \d [\d.]+ %", tip.inner_text())
    assert "mean of 3" in tip.inner_text()
    assert watch.complaints == []


def test_the_answer_is_what_one_sees_first(open_page: OpenPage, main_report: ReportFiles) -> None:
    for width in (400, 1280):
        page, _ = open_page(main_report.html, width)
        box = page.locator(".lead").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 450
        marks = page.locator(".verdicts .mark")
        assert marks.count() == len(ARMS) - 1
        assert set(marks.all_inner_texts()) <= {"equivalent", "better", "worse", "inconclusive"}


def test_hovering_a_difference_tells_its_intervals(
    open_page: OpenPage, main_report: ReportFiles
) -> None:
    page, watch = open_page(main_report.html)
    chart = page.locator("#differences")
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 17)
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    text = tip.inner_text()
    assert text.startswith("torch_bn")
    number = r"[+−]?\d+\.\d\d"
    assert re.search(rf"compared with bn {number}", text)
    assert re.search(rf"simultaneous \[{number}, {number}\]", text)
    assert re.search(rf"alone \[{number}, {number}\]", text)
    assert re.search(r"verdict (equivalent|better|worse|inconclusive)", text)
    assert len(re.findall(rf"seed \d {number}", text)) == 3
    ticks = "#differences svg path[fill='#2f7bff'], #differences svg line[stroke='#2f7bff']"
    assert page.locator(ticks).count() > 0
    page.locator("label", has_text=re.compile("^gn$")).first.click()
    page.wait_for_function(f'document.querySelectorAll("{ticks}").length === 0')
    assert watch.complaints == []


def test_charts_follow_the_theme_and_the_width(
    open_page: OpenPage, main_report: ReportFiles
) -> None:
    page, watch = open_page(main_report.html)
    label = f"{VAL} .mark-text.role-axis-label text"

    def look() -> tuple[str, str | None, set[str]]:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return ground, page.locator(label).first.get_attribute("fill"), _strokes(page, VAL)

    light = look()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        f"document.querySelector('{label}').getAttribute('fill') !== '{light[1]}'"
    )
    dark = look()
    assert light[0] != dark[0]
    assert light[2].isdisjoint(dark[2])
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        f"document.querySelector('{label}').getAttribute('fill') === '{light[1]}'"
    )
    assert look() == light

    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_function(
        f"document.querySelector('{VAL} svg').getBoundingClientRect().width < 400"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert watch.complaints == []


def test_prints_in_light(open_page: OpenPage, main_report: ReportFiles) -> None:
    page, watch = open_page(main_report.html, scheme="dark")
    label = f"{VAL} .mark-text.role-axis-label text"
    # As the browser does when a person prints.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(label).first.get_attribute("fill") == "#444"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(label).first.get_attribute("fill") != "#444"
    assert len(page.pdf()) > 20_000
    assert watch.complaints == []


MATRIX = "#confusion svg .mark-rect.role-mark path"


def test_choosing_an_arm_changes_the_matrix(
    open_page: OpenPage, main_study: Results, main_report: ReportFiles
) -> None:
    page, watch = open_page(main_report.html)

    def drawn() -> list[str]:
        return page.locator("#confusion svg .mark-text.role-mark text").all_text_contents()

    def counts(arm: str) -> list[str]:
        return [str(count) for count in confusion(main_study, arm).flat if count]

    assert sorted(drawn()) == sorted(counts("torch_bn"))
    page.locator(".choice label", has_text=re.compile("^gn$")).click()
    page.wait_for_function(f"document.querySelectorAll('{MATRIX}').length === {len(counts('gn'))}")
    assert sorted(drawn()) == sorted(counts("gn"))
    assert page.locator("#confusion-arm").inner_text() == "gn"
    assert page.locator("#confusion-file").get_attribute("href") == "figures/confusion-gn.svg"
    label = page.locator("#confusion").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("Confusion matrix of gn on the test images")
    said = page.locator("[data-confused]:visible").all_inner_texts()
    assert len(said) == 1
    assert said[0] in label

    # By keyboard: the next of the group.
    page.locator("input[name=confusion]:checked").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        f"document.querySelectorAll('{MATRIX}').length === {len(counts('none'))}"
    )
    assert sorted(drawn()) == sorted(counts("none"))
    # What is drawn elsewhere is no matter of this choice, nor this of that.
    assert len(_strokes(page, VAL)) == len(ARMS)
    page.get_by_role("button", name="hide all").click()
    _wait_for_strong(page, 0)
    assert sorted(drawn()) == sorted(counts("none"))
    assert watch.complaints == []


def test_hovering_a_cell_tells_classes_count_and_share(
    seen: tuple[Page, Any], main_study: Results
) -> None:
    page, watch = seen
    counts = confusion(main_study, "torch_bn")
    chart = page.locator("#confusion")
    chart.scroll_into_view_if_needed()
    cells = page.locator(MATRIX)
    first, last = cells.nth(0).bounding_box(), cells.nth(cells.count() - 1).bounding_box()
    assert first is not None
    assert last is not None
    # Middles of the cells (0, 0) and (9, 9), which are there in the made-up study.
    at = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in (first, last)]
    tip = page.locator(".tip")
    for t, p in ((0, 0), (9, 9), (0, 9), (3, 5)):
        page.mouse.move(
            at[0][0] + (at[1][0] - at[0][0]) * p / 9, at[0][1] + (at[1][1] - at[0][1]) * t / 9
        )
        tip.wait_for(state="visible")
        text = tip.inner_text()
        assert f"true class {t}\n" in text
        assert f"predicted {p}\n" in text
        total = counts[t].sum()
        assert f"count {counts[t, p]} of {total}\n" in text
        assert f"share {100 * counts[t, p] / total:.1f} %" in text
    page.mouse.move(5, 5)
    tip.wait_for(state="hidden")
    assert watch.complaints == []


def test_hovering_a_cost_tells_both_spreads(seen: tuple[Page, Any]) -> None:
    page, _ = seen
    chart = page.locator("#costs")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.4 * box["height"])
    tip = page.locator(".tip")
    tip.wait_for(state="visible")
    text = tip.inner_text()
    assert text.split()[0] in ARMS
    assert re.search(r"test accuracy [\d.]+ ± [\d.]+ %", text)
    assert re.search(r"per step [\d.]+ ms", text)


def test_the_matrix_follows_the_theme(seen: tuple[Page, Any]) -> None:
    page, _ = seen

    def fills() -> list[str | None]:
        return [cell.get_attribute("fill") for cell in page.locator(MATRIX).all()[:3]]

    light = fills()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        f"document.querySelector('{MATRIX}').getAttribute('fill') !== '{light[0]}'"
    )
    assert set(fills()).isdisjoint(light)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(
        f"document.querySelector('{MATRIX}').getAttribute('fill') === '{light[0]}'"
    )


@pytest.mark.parametrize(
    ("fixture", "widths", "schemes"),
    [("main_report", (400, 1280), ("light", "dark")), ("hurt_report", (1280,), ("dark",))],
)
def test_axe_finds_nothing_serious(
    open_page: OpenPage,
    request: pytest.FixtureRequest,
    fixture: str,
    widths: tuple[int, ...],
    schemes: tuple[str, ...],
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    report: ReportFiles = request.getfixturevalue(fixture)
    page, _ = open_page(report.html)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            found = axe.run(page)
            grave = [v for v in found.response["violations"] if v["impact"] in GRAVE]
            assert not grave, f"{width} px, {scheme}: {found.generate_report()}"
