"""The gallery's page in a browser: offline, switches, colours, themes, narrow and wide."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from normlab.data import DeviceSplit
from normlab.explain import explain_batch, place
from normlab.explain.pictures import AGAINST, FOR
from normlab.models import load_model
from normlab.studies import Study
from normlab.workflow.explanation import Explanation, explain

from .conftest import COLOURS, IMAGE_SIZE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

OpenPage = Callable[..., tuple["Page", Any]]

pytestmark = pytest.mark.xdist_group("browser")
PIXELS = """canvas => Array.from(
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def both(disc_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    """Two arms with everything on the page."""
    return explain(
        disc_study.folder, right=1, wrong=1, faithfulness=True, randomization=True,
        out=tmp_path_factory.mktemp("page") / "both",
    )  # fmt: skip


@pytest.fixture(scope="module")
def single(disc_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    run = disc_study.run_folder("bn", 0)
    return explain(run, right=2, wrong=2, out=tmp_path_factory.mktemp("page") / "single")


def _choose(page: Page, name: str, value: str) -> None:
    page.locator(f"label:has(input[name={name}][value='{value}'])").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_offline_quiet_and_within_its_width(
    open_page: OpenPage, both: Explanation, single: Explanation, width: int, scheme: str
) -> None:
    for made in (both, single):
        page, watch = open_page(made.page, width, scheme)
        elsewhere = [url for url in watch.requests if not url.startswith("data:")]
        assert elsewhere == [made.page.as_uri()]
        assert watch.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        for canvas in page.locator("canvas").all()[:6]:
            box = canvas.bounding_box()
            assert box is not None
            assert box["width"] > 80
            assert box["width"] == pytest.approx(box["height"], abs=1)


def test_a_map_has_the_colours_of_its_values_under_both_scales(
    open_page: OpenPage, single: Explanation, disc_study: Study
) -> None:
    page, watch = open_page(single.page)
    content = json.loads(single.chosen.read_text())
    image = next(one for one in content["images"] if one["kind"] == "wrong")
    split = disc_study.data.splits["val"]
    row = split.names.tolist().index(image["name"])
    x, labels = DeviceSplit(disc_study.data, "val").batch([row])
    model = load_model(disc_study.run_folder("bn", 0))
    predicted = model(x).argmax(1)
    maps = [explain_batch(model, x, target)[0].numpy() for target in (labels, predicted)]
    entry = page.locator(f".entry:has(a[title={json.dumps(image['name'])}])")
    canvases = entry.locator("canvas")
    assert canvases.count() == 2
    compared = 0
    largest = max(float(np.abs(cells).max()) for cells in maps)
    for scale, full in (("page", content["full_colour"]["bn"]), ("own", largest)):
        _choose(page, "scale", scale)
        page.wait_for_function(
            f"document.documentElement.matches('[data-own]') === {json.dumps(scale == 'own')}"
        )
        for index, cells in enumerate(maps):
            drawn = np.array(canvases.nth(index).evaluate(PIXELS)).reshape(48, 48, 4)
            values = place(cells, IMAGE_SIZE, 48)
            t = np.minimum(np.abs(values) / full, 1)
            step = np.abs(values).max() / 127 / full
            slack = 255 * np.sqrt(step) + 2
            np.testing.assert_allclose(drawn[..., 3], 255 * np.sqrt(t), atol=slack)
            strong = t > 0.2
            compared += int(strong.sum())
            for ends, sign in ((FOR, values > 0), (AGAINST, values < 0)):
                weak, full_colour = (np.array(end) for end in ends)
                expected = weak + t[..., None] * (full_colour - weak)
                where = sign & strong
                np.testing.assert_allclose(drawn[where][:, :3], expected[where], atol=8)
    assert compared > 500
    assert watch.complaints == []


def test_switches_show_the_plain_picture_and_change_the_strength(
    open_page: OpenPage, single: Explanation
) -> None:
    page, watch = open_page(single.page)
    canvas, picture = page.locator(".frame canvas").first, page.locator(".frame img").first

    def look() -> tuple[str, str, str]:
        style = "e => getComputedStyle(e)"
        return (
            canvas.evaluate(f"{style.replace('(e)', '(e).visibility')}"),
            canvas.evaluate(f"{style.replace('(e)', '(e).opacity')}"),
            picture.evaluate(f"{style.replace('(e)', '(e).filter')}"),
        )

    assert look() == ("visible", "0.85", "grayscale(1) contrast(0.75)")
    page.locator("input[name=strength]").fill("0.3")
    assert look()[1] == "0.3"
    page.locator("label:has(input[name=maps])").click()
    assert look()[::2] == ("hidden", "none")
    # By keyboard: focus the switch and press space.
    page.locator("input[name=maps]").focus()
    page.keyboard.press("Space")
    assert look()[0] == "visible"
    assert watch.complaints == []


def test_filters_by_class_and_by_right_and_wrong(open_page: OpenPage, single: Explanation) -> None:
    page, watch = open_page(single.page)
    images = json.loads(single.chosen.read_text())["images"]
    shown = page.locator(".entry:visible")
    assert shown.count() == len(images)
    _choose(page, "kind", "wrong")
    assert shown.count() == sum(image["kind"] == "wrong" for image in images)
    page.locator("select[name=class]").select_option(label="red")
    wrong_reds = [i for i in images if i["kind"] == "wrong" and i["class"] == "red"]
    assert shown.count() == len(wrong_reds) > 0
    assert page.locator("section.class:visible h2").all_inner_texts() == ["red"]
    _choose(page, "kind", "")
    page.locator("select[name=class]").select_option(label="all")
    assert shown.count() == len(images)
    assert watch.complaints == []


def test_every_picture_is_told_in_words_and_leads_to_its_file(
    open_page: OpenPage, single: Explanation
) -> None:
    page, _ = open_page(single.page)
    images = json.loads(single.chosen.read_text())["images"]
    pictures = page.locator(".picture img")
    assert pictures.count() == len(images)
    for index, image in enumerate(images):
        said = pictures.nth(index).get_attribute("alt") or ""
        probability = max(image["models"]["bn"]["probabilities"])
        assert said.startswith(f"{image['class']}, ")
        verb = "recognized" if image["kind"] == "right" else "taken for"
        assert verb in said
        assert f"{probability:.2f}" in said
        assert re.search(r"strongest at|[Nn]o positive evidence|Next to no evidence", said)
        link = page.locator(".picture a").nth(index).evaluate("a => decodeURIComponent(a.href)")
        assert link == (single.folder / image["file"]).as_uri().replace("%20", " ")
    labels = page.locator("canvas").evaluate_all("all => all.map(c => c.ariaLabel)")
    assert all(labels)


def test_without_scripts_pictures_words_and_the_way_to_the_files_remain(
    browser: Browser, single: Explanation
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(single.page.as_uri())
    assert page.locator(".picture img:visible").count() > 0
    assert page.locator("noscript p:visible").inner_text().count("contact-sheet.png") == 1
    assert page.locator(".bar:visible").count() == 0
    assert page.locator(".frame:visible").count() == 0
    assert page.locator(".map figcaption:visible").count() > 0
    context.close()


def test_the_page_tells_how_it_was_made_and_what_was_checked(
    open_page: OpenPage, both: Explanation
) -> None:
    page, watch = open_page(both.page)
    text = page.locator("body").inner_text()
    for said in (
        "Grad-CAM", "stages.2.0.relu2", "logits per cell", "What a map cannot show",
        "epoch chosen", "8 layers (n = 1)", "The model that selects is bn.",
    ):  # fmt: skip
        assert said in text
    content: dict[str, Any] = json.loads(both.chosen.read_text())
    curves = page.locator("svg.curves")
    assert curves.count() == 4
    for index, (_, kinds) in enumerate(content["faithfulness"].items()):
        table = page.locator(".charts table").nth(index).inner_text()
        for ranking, area in kinds["deletion"].items():
            assert f"{area:.3f}\t{kinds['insertion'][ranking]:.3f}" in table
        points = curves.nth(2 * index).locator("polyline.map").get_attribute("points") or ""
        heights = [float(pair.split(",")[1]) for pair in points.split()]
        assert len(heights) == 21
        assert all(-0.1 <= height <= 200.1 for height in heights)
    assert len(content["randomization"]) == 9
    rows = page.locator("#h-cascade ~ .scroll tbody tr")
    assert rows.count() == 9
    assert rows.first.inner_text().split("\t")[1:] == ["1.00", "1.00"]
    strips = page.locator(".strip")
    assert strips.count() == 3
    assert strips.first.locator("canvas").count() == 9
    assert watch.complaints == []


def test_names_are_written_as_text(both: Explanation) -> None:
    name = list(COLOURS)[1]
    written = both.page.read_text(encoding="utf-8")
    assert name not in written
    assert html.escape(name, quote=False).split('"')[0] in written
