"""The table of the experiment: train, validation and test by accuracy, micro F1 and macro F1."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..studies import Results
from ..training.metrics import METRICS, SPLITS

if TYPE_CHECKING:
    from rich.console import Group

SPLIT_TITLES = {"train": "train", "val": "validation", "test": "test"}
METRIC_TITLES = {"accuracy": "accuracy", "micro_f1": "micro F1", "macro_f1": "macro F1"}
WIDE = 118
"""Columns a terminal needs for the table in one piece."""


def cells(results: Results, arm: str, split: str, dash: str = "–") -> list[str]:
    """Percent as mean ± sample standard deviation over the arm's complete runs, a metric a cell."""
    found = []
    for metric in METRICS:
        spread = results.spread(arm, split, metric)
        if spread is None:
            found.append(dash)
        elif spread.sd is None:
            found.append(f"{100 * spread.mean:.1f}")
        else:
            found.append(f"{100 * spread.mean:.1f} ± {100 * spread.sd:.1f}")
    return found


def runs_cell(results: Results, arm: str) -> str:
    """"3", or "2 of 3" where a run has no metrics."""
    runs = results.of_arm(arm)
    complete = sum(run.complete for run in runs)
    return str(complete) if complete == len(runs) else f"{complete} of {len(runs)}"


def notes(results: Results) -> list[str]:
    """What a reader of the table has to know, one sentence each."""
    said = []
    for arm in results.arms:
        ended = results.ended_otherwise(arm)
        if ended:
            said.append(f"{arm}: {'; '.join(ended)}.")
    counts = {len([run for run in results.of_arm(arm) if run.complete]) for arm in results.arms}
    if max(counts) > 1:
        said.append("Percent, mean ± sample standard deviation over seeds.")
    else:
        said.append("Percent of a single run; a spread needs at least two seeds.")
    said.append(
        "All splits come from one evaluation pass with the weights that validation chose. "
        "Micro F1 equals accuracy, since every image has one label."
    )
    return said


def terminal_table(results: Results, width: int) -> Group:
    """The table for a terminal of so many columns: in one piece, or a block a split."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def block(splits: tuple[str, ...]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=30)
        for split in splits:
            for metric in METRICS:
                title = f"{SPLIT_TITLES[split]}\n{METRIC_TITLES[metric]}"
                table.add_column(title, justify="right", no_wrap=True)
        table.add_column("runs", justify="right", no_wrap=True)
        for arm in results.arms:
            found = [cell for split in splits for cell in cells(results, arm, split)]
            table.add_row(Text(arm), *found, runs_cell(results, arm))
        return table

    longest = max(map(len, results.arms))
    if width >= WIDE + max(0, min(longest, 30) - 8):
        blocks = [block(SPLITS)]
    else:
        blocks = [block((split,)) for split in SPLITS]
    parts: list[Table | Text] = []
    for index, table in enumerate(blocks):
        parts += [Text("")] * (index > 0) + [table]
    return Group(*parts, Text(""), *(Text(note, style="dim") for note in notes(results)))


def markdown_table(results: Results) -> str:
    """The table as Markdown, with its notes."""
    head = ["arm", *(f"{SPLIT_TITLES[s]} {METRIC_TITLES[m]}" for s in SPLITS for m in METRICS)]
    lines = [
        _row([*head, "runs"], _markdown_escape),
        "|" + " --- |" + " ---: |" * (len(head)),
    ]
    for arm in results.arms:
        found = [cell for split in SPLITS for cell in cells(results, arm, split)]
        lines.append(_row([f"{arm}", *found, runs_cell(results, arm)], _markdown_escape))
    below = "\n".join(f"- {_markdown_escape(note)}" for note in notes(results))
    return f"# {_markdown_escape(results.question['title'])}\n\n" + "\n".join(lines) + f"\n\n{below}\n"


def latex_table(results: Results) -> str:
    """The table as LaTeX with booktabs, ready to be input into a table environment."""
    splits = " & ".join(rf"\multicolumn{{3}}{{c}}{{{SPLIT_TITLES[s]}}}" for s in SPLITS)
    rules = "".join(rf"\cmidrule(lr){{{2 + 3 * i}-{4 + 3 * i}}}" for i in range(len(SPLITS)))
    metrics = " & ".join(METRIC_TITLES[m] for _ in SPLITS for m in METRICS)
    lines = [
        r"% needs \usepackage{booktabs}",
        *(f"% {note}" for note in notes(results)),
        r"\begin{tabular}{l" + "r" * 9 + "r}",
        r"\toprule",
        rf" & {splits} & \\",
        rules,
        rf"arm & {metrics} & runs \\",
        r"\midrule",
    ]
    for arm in results.arms:
        found = [
            cell.replace(" ± ", r"\,$\pm$\,")
            for split in SPLITS
            for cell in cells(results, arm, split, dash="--")
        ]
        lines.append(" & ".join([_latex_escape(arm), *found, runs_cell(results, arm)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def html_table(results: Results) -> str:
    """The table as HTML, with headers that a screen reader can follow."""
    groups = "".join(f'<th scope="colgroup" colspan="3">{SPLIT_TITLES[s]}</th>' for s in SPLITS)
    heads = "".join(f'<th scope="col">{METRIC_TITLES[m]}</th>' for _ in SPLITS for m in METRICS)
    rows = []
    for arm in results.arms:
        found = [cell for split in SPLITS for cell in cells(results, arm, split)]
        data = "".join(f"<td>{html.escape(c)}</td>" for c in [*found, runs_cell(results, arm)])
        rows.append(f'<tr><th scope="row">{html.escape(arm)}</th>{data}</tr>')
    return (
        '<table class="results"><caption>Accuracy, micro F1 and macro F1 in percent</caption>'
        f'<thead><tr><td></td>{groups}<td></td></tr><tr><th scope="col">arm</th>{heads}'
        f'<th scope="col">runs</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _row(items: list[str], escape: Callable[[str], str]) -> str:
    return "| " + " | ".join(map(escape, items)) + " |"


def _markdown_escape(text: str) -> str:
    for character in ("\\", "|", "`", "*", "_", "<", "#"):
        text = text.replace(character, "\\" + character)
    return text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
