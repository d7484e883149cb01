"""The table of a study, for the terminal, Markdown, LaTeX and the page.

One row an arm in the order asked: no arm is left out, none is ranked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..pages.words import NO_VALUE
from ..results import Results, Spread
from ..runs import METRICS
from ..splits import SPLIT_WORDS, SPLITS
from .data_findings import data_findings

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import RenderableType
    from rich.table import Table

METRIC_WORDS = {"accuracy": "accuracy", "micro_f1": "micro F1", "macro_f1": "macro F1"}


@dataclass(frozen=True)
class Row:
    """One arm: a cell per split and metric, and how many runs stand behind them."""

    arm: str
    cells: Mapping[tuple[str, str], Spread | None]
    runs: str


def rows(results: Results) -> list[Row]:
    """One row an arm, in the order asked."""
    return [
        Row(
            arm,
            {(s, m): results.spread(arm, s, m) for s in SPLITS for m in METRICS},
            _runs(results, arm),
        )
        for arm in results.arms
    ]


def cell(spread: Spread | None) -> str:
    """Percent with one decimal: mean ± sd, the value alone for one run, a dash for none."""
    if spread is None:
        return NO_VALUE
    mean = f"{100 * spread.mean:.1f}"
    return mean if spread.sd is None else f"{mean} ± {100 * spread.sd:.1f}"


def endings(results: Results) -> list[str]:
    """A sentence for every arm with runs that did not end with a model."""
    sentences = []
    for arm in results.arms:
        found = {run.seed for run in results.of_arm(arm)}
        missing = [f"seed {s} not run yet" for s in results.question["seeds"] if s not in found]
        ended = [*results.ended_otherwise(arm), *missing]
        if ended:
            left = sum(run.complete for run in results.of_arm(arm))
            behind = (
                "no run is left to average" if left == 0
                else "its numbers are of the one other run" if left == 1
                else f"its numbers are over the other {left} runs"
            )  # fmt: skip
            sentences.append(f"{arm}: {', '.join(ended)}; {behind}.")
    return sentences


def notes(results: Results) -> list[str]:
    """What a reader of the table has to know, in plain sentences."""
    found = data_findings(results)
    checked = found.sentences() if found is not None else []
    return [*checked, *meaning(results), *endings(results)]


def meaning(results: Results) -> list[str]:
    """What the numbers are."""
    said = ["Values are percent."]
    spreads = [results.spread(arm, "test", "accuracy") for arm in results.arms]
    if any(spread is not None and spread.sd is not None for spread in spreads):
        said[0] = "Values are percent: mean ± sample standard deviation over the seeds of an arm."
    if any(spread is not None and spread.sd is None for spread in spreads):
        said.append(
            "Where one run stands behind a value it is given alone: "
            "a standard deviation needs at least two seeds."
        )
    said += [
        "All numbers of a run come from one evaluation pass (evaluation mode, no augmentation) "
        "with the weights that validation chose; the test split is read once, after that choice.",
        "Every image has one label, so micro F1 equals accuracy.",
    ]
    norms = {_norm(results, arm) for arm in results.arms}
    if {"torch_bn", "bn"} <= norms:
        said.append(
            "torch_bn is PyTorch's own batch normalization: the reference that bn, written out "
            "from the paper, has to agree with."
        )
    elif "torch_bn" in norms:
        said.append("torch_bn is PyTorch's own batch normalization.")
    share = _most_frequent(results.data)
    if share is not None:
        said.append(
            "For scale: always answering the most frequent class would be right for "
            f"{100 * share:.1f} % of the test images."
        )
    return said


def terminal_table(results: Results, width: int) -> RenderableType:
    """The table for a terminal of ``width`` columns.

    In one piece where it fits, else as three blocks (train, val, test), one below the other.
    """
    from rich.console import Group
    from rich.text import Text

    said = [Text(note, style="dim") for note in notes(results)]
    table = list(rows(results))
    natural = 1 + max(len(row.arm) for row in table) + max(4, *(len(row.runs) for row in table))
    for key in table[0].cells:
        natural += 1 + max(len("micro F1"), *(len(cell(row.cells[key])) for row in table))
    if width >= natural:
        return Group(_terminal_block(table, SPLITS), Text(), *said)
    blocks: list[RenderableType] = []
    for split in SPLITS:
        blocks += [_terminal_block(table, (split,)), Text()]
    return Group(*blocks, *said)


def markdown_table(results: Results) -> str:
    """The table and its notes as GitHub Markdown."""
    head = ["arm", *(f"{s} {METRIC_WORDS[m]}" for s, m in _keys()), "runs"]
    lines = [
        markdown_row(head),
        markdown_row(["---", *("---:" for _ in range(len(head) - 1))]),
        *(
            markdown_row([markdown_code(row.arm), *map(cell, row.cells.values()), row.runs])
            for row in rows(results)
        ),
        "",
        *(f"- {markdown_text(note)}" for note in notes(results)),
    ]
    return "\n".join(lines) + "\n"


def markdown_file(results: Results, answer: str = "") -> str:
    """The beginning of results.md: title, answer, table, notes."""
    title = markdown_text(str(results.question.get("title") or results.folder.name))
    head = f"{answer}## Results\n\n" if answer else ""
    return f"# {title}\n\n{head}{markdown_table(results)}"


def latex_table(results: Results) -> str:
    r"""The table as a LaTeX ``tabular`` that stands alone, notes in comments."""
    heads = " & ".join(rf"\multicolumn{{3}}{{c}}{{{SPLIT_WORDS[s]}}}" for s in SPLITS)
    rules = " ".join(rf"\cmidrule(lr){{{a}-{a + 2}}}" for a in (2, 5, 8))
    names = " & ".join(METRIC_WORDS[m] for _, m in _keys())
    title = one_line(str(results.question.get("title") or results.folder.name))
    lines = [
        f"% {title}",
        r"% Needs \usepackage{booktabs} in the preamble.",
        *(f"% {one_line(note)}" for note in notes(results)),
        r"\begin{tabular}{lrrrrrrrrrr}",
        r"\toprule",
        rf" & {heads} & \\",
        rules,
        rf"arm & {names} & runs \\",
        r"\midrule",
        *(
            " & ".join(
                [
                    latex_text(row.arm),
                    *(latex_cell(cell(value)) for value in row.cells.values()),
                    latex_text(row.runs),
                ]
            )
            + r" \\"
            for row in rows(results)
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def html_table(results: Results) -> Markup:
    """The table as HTML."""
    from markupsafe import Markup

    table = rows(results)
    join = Markup("").join
    th = Markup('<th scope="col">{}</th>').format
    group = Markup('<th scope="colgroup" colspan="3">{}</th>').format
    arm = Markup('<th scope="row">{}</th>').format
    td = Markup("<td>{}</td>").format
    return Markup(
        '<table class="results wide" style="--arm:{}ch"><caption>Accuracy, micro F1 and macro F1 '
        'of every arm, in percent</caption><colgroup></colgroup><colgroup span="3"></colgroup>'
        '<colgroup span="3"></colgroup><colgroup span="3"></colgroup><colgroup></colgroup>'
        "<thead><tr><td></td>{}<td></td></tr><tr>{}{}{}</tr></thead><tbody>{}</tbody></table>"
    ).format(
        _width(table),
        join(group(SPLIT_WORDS[s]) for s in SPLITS),
        th("arm"),
        join(th(METRIC_WORDS[m]) for _, m in _keys()),
        th("runs"),
        join(
            Markup("<tr>{}{}{}</tr>").format(
                arm(breakable(row.arm)),
                join(td(cell(v)) for v in row.cells.values()),
                td(row.runs),
            )
            for row in table
        ),
    )


def breakable(arm: str) -> Markup:
    """An arm's name that may break after its commas."""
    from markupsafe import Markup

    return Markup(",<wbr>").join(arm.split(","))


def html_blocks(results: Results) -> Markup:
    """The same in three tables (training, validation, test), for a narrow screen."""
    from markupsafe import Markup

    join = Markup("").join
    heads = join(Markup('<th scope="col">{}</th>').format(METRIC_WORDS[m]) for m in METRICS)
    small = Markup(" <small>{}</small>").format
    table = rows(results)
    return join(
        Markup(
            '<table class="results narrow" style="--arm:{}ch"><caption>{}</caption>'
            '<thead><tr><th scope="col">arm</th>{}</tr></thead><tbody>{}</tbody></table>'
        ).format(
            _width(table),
            SPLIT_WORDS[s].capitalize(),
            heads,
            join(
                Markup('<tr><th scope="row">{}{}</th>{}</tr>').format(
                    breakable(row.arm),
                    small(row.runs) if "(" in row.runs else "",
                    join(Markup("<td>{}</td>").format(cell(row.cells[s, m])) for m in METRICS),
                )
                for row in table
            ),
        )
        for s in SPLITS
    )


def _width(table: list[Row]) -> int:
    """Room for the longest name; the style sheet has the last word."""
    return 1 + max(len(row.arm) for row in table)


def _keys() -> Iterator[tuple[str, str]]:
    return ((s, m) for s in SPLITS for m in METRICS)


def _runs(results: Results, arm: str) -> str:
    """ "3", or with what became of the others: "1 (2 of 3 diverged)"."""
    found = results.of_arm(arm)
    asked = len(results.question["seeds"])
    complete = sum(run.complete for run in found)
    others = Counter(run.status.split()[0] for run in found if not run.complete)
    if asked > len(found):
        others["not run"] = asked - len(found)
    if not others:
        return str(complete)
    return f"{complete} ({', '.join(f'{k} of {asked} {what}' for what, k in others.items())})"


def _norm(results: Results, arm: str) -> str:
    fields: Mapping[str, Any] = results.question["arms"].get(arm, {})
    return str(fields.get("norm", arm))


def _most_frequent(data: Mapping[str, Any]) -> float | None:
    counts = list(data.get("counts", {}).get("test", {}).values())
    return max(counts) / sum(counts) if counts and sum(counts) else None


def _terminal_block(table: list[Row], splits: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    whole = len(splits) > 1
    gap = 0 if whole else 1  # beside the one column that the box takes
    block = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        show_edge=False,
        header_style="bold",
        pad_edge=False,
    )
    # Blocks one below the other have their columns in the same places.
    longest = max(len(row.arm) for row in table)
    named = "\narm" if whole else SPLIT_WORDS[splits[0]]
    least = None if whole or longest > 24 else max(longest, *map(len, SPLIT_WORDS.values()))
    block.add_column(named, overflow="fold", no_wrap=whole, min_width=least)
    widest = max(len(cell(value)) for row in table for value in row.cells.values())
    for split in splits:
        for metric in METRICS:
            word = METRIC_WORDS[metric]
            head = f"{split if metric == METRICS[0] else ''}\n{word}" if whole else word
            block.add_column(
                head, justify="right", no_wrap=True, min_width=None if whole else widest
            )
    block.add_column("\nruns" if whole else "runs", overflow="fold", no_wrap=whole)
    for row in table:
        values = (cell(row.cells[s, m]) for s in splits for m in METRICS)
        block.add_row(Text(row.arm), *values, row.runs)
    return block


def markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown_code(text: str) -> str:
    """A code span, which in a table needs its bars escaped all the same."""
    text = one_line(text).replace("|", r"\|")
    if "`" in text:
        return f"`` {text} ``"
    return f"`{text}`"


def markdown_text(text: str) -> str:
    """Plain text: nothing in it is markup. An underscore inside a word is none anyway."""
    text = re.sub(r"([\\`*\[\]<>|~#&])", r"\\\1", one_line(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}


def latex_text(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def latex_cell(text: str) -> str:
    return text.replace(" ± ", r" $\pm$ ").replace(NO_VALUE, "--").replace("−", "$-$")


def one_line(text: str) -> str:
    return " ".join(text.split())
