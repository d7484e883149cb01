"""Table: one description, four forms, whatever the cells contain."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from normlab.pages.tables import Cell, Column, Table

NASTY = "a|b & `c` 100% #1 ~^\\{x} <i>_x_</i>\nnext"


def _table() -> Table:
    return Table(
        (
            Column("name", "left"),
            Column("one", group="first"),
            Column("two", group="first"),
            Column("three", group="second & last", alone="number three"),
            Column("state", "left"),
        ),
        (
            (Cell(NASTY, "name", note="1 of 2"), Cell("1.0 ± 0.2"), Cell("–"), Cell("−3"),
             Cell("worse", "mark")),
            (Cell("gn,lr=1", "name"), Cell("2", small="± 1"), Cell("2.50 ×"), Cell("4"),
             Cell("no verdict", "mark")),
        ),
        title="A title\nin two lines",
        caption="A <caption>",
        notes=("A *note* with 5 % of\nit.",),
    )  # fmt: skip


def test_markdown() -> None:
    lines = _table().markdown().splitlines()
    assert lines[0] == "| name | first one | first two | number three | state |"
    assert lines[1] == "| --- | ---: | ---: | ---: | --- |"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]} == {6}
    assert lines[2].startswith("| `` a\\|b & `c` 100% #1 ~^\\{x} <i>_x_</i> next `` | 1.0 ± 0.2 |")
    assert lines[3] == "| `gn,lr=1` | 2 ± 1 | 2.50 × | 4 | no verdict |"
    assert lines[5] == "- A \\*note\\* with 5 % of it."


def test_latex() -> None:
    text = _table().latex()
    head, body = text.split("\\begin{tabular}{lrrrl}\n")
    assert head.splitlines() == [
        "% A title in two lines",
        r"% Needs \usepackage{booktabs} in the preamble.",
        "% A *note* with 5 % of it.",
    ]
    lines = body.splitlines()
    assert lines[1] == (r"& \multicolumn{2}{c}{first} & \multicolumn{1}{c}{second \& last} & \\")
    assert lines[2] == r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}"
    assert lines[3] == r"name & one & two & three & state \\"
    assert lines[5] == (
        r"a\textbar{}b \& `c` 100\% \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}\{x\} "
        r"\textless{}i\textgreater{}\_x\_\textless{}/i\textgreater{} next & 1.0 $\pm$ 0.2 & -- & "
        r"$-$3 & worse \\"
    )
    assert lines[6].startswith(r"gn,lr=1 & 2 $\pm$ 1 & 2.50 $\times$ &")
    assert lines[-1] == r"\end{tabular}"


def test_html() -> None:
    text = str(_table().html("wide"))
    root = ElementTree.fromstring(text.replace("<wbr>", "<wbr/>"))
    assert root.get("class") == "wide"
    assert root.findtext("caption") == "A <caption>"
    assert [group.get("span") for group in root.iter("colgroup")] == ["1", "2", "1", "1"]
    scopes = [cell.get("scope") for cell in root.iter("th")]
    assert scopes == ["colgroup"] * 2 + ["col"] * 5 + ["row"] * 2
    assert "<i>" not in text
    marks = [span.get("class") for span in root.iter("span")]
    assert marks == ["mark worse", "mark no-verdict"]
    assert root.findtext(".//small") == "± 1"


def test_narrow_html_has_a_table_per_group() -> None:
    root = ElementTree.fromstring(f"<div>{_table().html_blocks('narrow')}</div>".replace(
        "<wbr>", "<wbr/>"))  # fmt: skip
    assert [one.findtext("caption") for one in root] == ["First", "Second & last"]
    assert [len(list(one.iter("td"))) for one in root] == [4, 2]
    assert next(small.text for small in root.iter("small")) == "1 of 2"


@pytest.mark.parametrize(("width", "pieces"), [(100, 1), (60, 2)])
def test_terminal_in_one_piece_or_in_blocks(width: int, pieces: int) -> None:
    console = Console(width=width)
    with console.capture() as caught:
        console.print(_table().terminal(width))
    lines = [line.rstrip() for line in caught.get().splitlines()]
    assert max(map(len, lines)) <= width
    assert sum("─" in line for line in lines) == pieces
    assert sum("no verdict" in line for line in lines) == pieces


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a table of 2 columns"):
        Table((Column("a"), Column("b")), ((Cell("x"),),))
