"""What a terminal shows when work is done."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..pages.findings import troubles
from ..pages.words import counted, duration, visible
from ..runs import AS_IS

if TYPE_CHECKING:
    from ..norms import NormSpec
    from ..pages.findings import Finding
    from ..report import ReportFiles
    from ..results import Results
    from ..results.statistics import McNemar
    from ..workflow import (
        Comparison,
        DataReport,
        Estimate,
        Explanation,
        Inspection,
        PredictionReport,
        TrainedRun,
    )

_LEVEL_STYLES = ("green", "yellow", "red")
"""From the mildest level of a finding."""
SCREEN = (24, 80)
"""Lines and columns of the smallest screen that a check of data must fit on."""


def print_line(console: Console, text: str, style: str = "") -> None:
    """One line, however long, in which nothing is markup."""
    console.print(
        visible(text, keep="\n"), highlight=False, markup=False, soft_wrap=True, style=style
    )


def print_comparison(console: Console, outcome: Comparison | Estimate) -> Path | None:
    """What ``compare`` found; returns the page's path, None for a dry run."""
    from ..workflow import Comparison

    if not isinstance(outcome, Comparison):
        print_line(console, "Nothing was run (--dry-run).")
        return None
    if outcome.runs_made == 0:
        print_line(console, "Every run was complete already; nothing was run again.")
    _print_results(console, outcome.results, outcome.report)
    return outcome.report.html


def print_reports(console: Console, made: Sequence[tuple[Results, ReportFiles]]) -> None:
    """Several studies, one after the other."""
    for results, files in made:
        if len(made) > 1:
            console.rule(str(results.folder))
        _print_results(console, results, files)


def print_run(console: Console, made: TrainedRun) -> None:
    """How a single run ended."""
    record = made.record
    print_line(console, f"{record['status']}, {duration(record['seconds'])}")
    if record.get("kernels_note"):
        print_line(console, f"Layers computed {record['kernels_note']}")
    for note in record.get("notes", ()):
        print_line(console, note)
    for split, metrics in (record["metrics"] or {}).items():
        print_line(
            console,
            f"{split:6} accuracy {100 * metrics['accuracy']:.2f} %  "
            f"macro F1 {100 * metrics['macro_f1']:.2f} %  loss {metrics['loss']:.4f}",
        )
    _print_paths(console, Run=made.folder)


def print_mcnemar(console: Console, found: McNemar) -> None:
    """Two models on the same images."""
    ahead = "more" if found.difference >= 0 else "less"
    for line in (
        f"{found.first} and {found.second} on {found.images:,} {found.split} images:",
        f"Only the first is right on {found.only_first}, only the second on {found.only_second}; "
        f"the first is {abs(100 * found.difference):.2f} points {ahead} accurate.",
        f"Exact p-value {found.p_value:.3g}: the probability of a count at least this uneven if "
        "both models were right equally often where they differ.",
        "This compares two checkpoints, not two methods; another seed is another checkpoint.",
    ):
        print_line(console, line)


def print_explanation(console: Console, made: Explanation) -> None:
    """Where a gallery is, and what was left out of it."""
    for note in made.notes:
        print_line(console, note)
    _print_paths(console, Page=made.page, Folder=made.folder)


def print_check(console: Console, made: DataReport) -> None:
    """What a check of data found, the worst first, on one screen; the page has the rest."""
    width = console.width if console.is_terminal else SCREEN[1]
    after = [f"Split    {note}" for note in _main_notes(made.split_notes)]
    paths = {"Split": made.split} if made.split is not None else {}
    paths |= {"Page": made.page, "Folder": made.folder}
    ends = sum(_lines(text, width) for text in [*made.scope, *after])
    ends += sum(_lines(f"{name:<9}{path}", width) for name, path in paths.items())
    room = SCREEN[0] - 1 - ends  # a line for the prompt
    for text, style in _told_findings(made.findings, room, width, part=bool(made.scope)):
        for line in _wrapped(text, width) if console.is_terminal else [text]:
            print_line(console, line, style)
    for text in [*made.scope, *after]:
        print_line(console, text)
    _print_paths(console, **paths)


def _told_findings(
    findings: Sequence[Finding], room: int, width: int, *, part: bool
) -> list[tuple[str, str]]:
    """Lines on the findings that are not fine, worst first, as many as there is room for."""
    bad = troubles(findings)
    fine = len(findings) - len(bad)
    last = f"{fine} {'finding is' if fine == 1 else 'findings are'} fine."
    if not bad:
        last = f"{'What was checked shows' if part else 'The check found'} no problem: {last}"
        return [(last, _LEVEL_STYLES[0])]
    told: list[tuple[str, str]] = []
    left = room - _lines(last, width)
    for number, finding in enumerate(bad):
        text = visible(f"{finding.level}: {finding.sentence}")
        style = _LEVEL_STYLES[finding.level.rank]
        more = len(bad) - number
        kept = 1 if more > 1 else 0  # for the line that says how many are not shown
        if _lines(text, width) > left - kept and told:
            told.append((f"{more} more {'is' if more == 1 else 'are'} on the page.", ""))
            break
        told.append((text, style))
        left -= _lines(text, width)
    return [*told, (last, "")]


def _main_notes(notes: Sequence[str]) -> list[str]:
    """Of what a split says, the policy, what moved in all, and the counts."""
    return [*notes[:2], *notes[-1:]] if len(notes) > 3 else list(notes)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width) or [""]


def _lines(text: str, width: int) -> int:
    return len(_wrapped(text, width))


def print_predictions(console: Console, errors: Console, made: PredictionReport) -> None:
    """How many images were predicted, and which could not be read."""
    for name, reason in made.unreadable.items():
        print_line(errors, f"normlab: {name} {reason.rstrip('.')}.")
    print_line(console, f"{made.rows:,} rows in {made.output}")


def print_inspection(console: Console, found: Inspection) -> None:
    """The layer at every site, the method's other parts, and the model's card."""
    print_line(console, str(found.folder))
    table = Table("place", "channels", "layer")
    for site in (*found.sites, *found.parts):
        table.add_row(
            *(Text(visible(str(cell))) for cell in (site.name, site.channels, site.detail))
        )
    console.print(table)
    for name, value in _card_lines(found.card, found.command):
        print_line(console, f"{name:<13}{value}")
    sites = f"All {len(found.sites)} sites"
    if found.norm == AS_IS:
        said = f"{sites} are as the network has them"
    elif not found.parts and len({site.layer for site in found.sites}) == 1:
        said = f"{sites} carry {found.norm}"
    elif not found.parts:
        said = f"{sites} have what {found.norm} puts there"
    else:
        others = counted(len(found.parts), "other place")
        said = f"{sites} and {others} have what {found.norm} puts there"
    print_line(
        console,
        f"{found.network}, {found.parameters:,} parameters. {said}; there is no other "
        "normalization in the network.",
    )
    if found.concerns:
        print_line(console, "What to look at:")
    for concern in found.concerns:
        print_line(console, f"- {concern}")
    if not found.checked:
        print_line(
            console,
            "This model has no checksum: it is of an earlier version, or was edited. Whether it is "
            "what was saved could not be checked.",
        )
    if found.not_finite:
        print_line(console, f"{found.not_finite} Its answers mean nothing.", "red")


_ROOM_FOR_COSTS = 78
"""Characters in a line of the catalogue with costs, in which no word is cut."""


def print_norms(console: Console) -> None:
    """The catalogue of normalizations, family by family."""
    from ..workflow.catalogue import parameters, table

    costs = ("parameters", "operations", "kept")
    narrow = console.width < _ROOM_FOR_COSTS
    heads = ("pools", *(() if narrow else costs), "year", "method")
    for title, rows in table().items():
        console.print(f"[bold]{title}[/bold]", highlight=False)
        shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        shown.add_column("name", no_wrap=True, min_width=10)
        for head in heads:
            shown.add_column(head, no_wrap=head in ("operations", "kept", "year"))
        for row in rows:
            cost = () if narrow else (parameters(row.cost), row.operations, row.kept)
            cells = [row.spec.name, "\n".join(row.pools), *cost, row.year, row.spec.title]
            shown.add_row(*map(Text, cells))
        console.print(shown)
        console.print()
    lines = ["pools: axes of one set of statistics; small letters in part, dots not at all."]
    if narrow:
        lines.append("A wider terminal shows what they cost. normlab norms NAME shows one method.")
    else:
        lines += [
            "operations: over whole activations, forward + backward, without compiled kernels.",
            "kept: activations in memory for backward. normlab norms NAME shows one method.",
        ]
    for line in lines:
        console.print(line, style="dim", highlight=False)


def print_norm(console: Console, spec: NormSpec) -> None:
    """All that is known of one method."""
    from ..norms.axes import kinds_of
    from ..norms.describe import formula
    from ..workflow.catalogue import entry

    console.print(f"[bold]{spec.name}[/bold]  {spec.title}", highlight=False)
    console.print(f"\n{formula(spec)}\n", markup=False, highlight=False)
    for kind in kinds_of(spec):
        for line in kind.drawn:
            console.print(f"  {line}", markup=False, highlight=False)
        console.print(f"  Filled: {kind.words}.\n", markup=False, highlight=False)
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column()
    for label, text in entry(spec).items():
        shown.add_row(Text(label, style="dim"), Text(text))
    console.print(shown)


def _print_results(console: Console, results: Results, files: ReportFiles) -> None:
    """The table, one line per verdict, one per finding, and where the page is."""
    from ..report import terminal

    console.print()
    console.print(terminal.table(results, console.width))
    console.print()
    for line in terminal.verdict_lines(results):
        print_line(console, line)
    findings = terminal.finding_lines(results)
    if findings:
        console.print()
    for line in findings:
        print_line(console, line)
    console.print()
    _print_paths(console, Page=files.html, Folder=results.folder)


def _print_paths(console: Console, **paths: Path) -> None:
    for name, path in paths.items():
        print_line(console, f"{name:<9}{path}")


def _card_lines(card: Mapping[str, Any], command: str) -> list[tuple[str, str]]:
    """A model's card, one line each; what the card lacks is left out."""
    data, metrics = card.get("data", {}), card.get("metrics", {})
    images = ", ".join(f"{count:,} {split}" for split, count in data.get("images", {}).items())
    reached = ", ".join(
        f"{split} {100 * found['accuracy']:.2f} %" for split, found in metrics.items()
    )
    epoch = f" (epoch {card['chosen_epoch']})" if card.get("chosen_epoch") else ""
    lines = [
        ("Arm", ", ".join([*([card["arm"]] if "arm" in card else []),
                           *([f"seed {card['seed']}"] if "seed" in card else [])])),
        ("Data", f"{data.get('name')}: {images}; fingerprint {data.get('fingerprint')}"
                 if data else ""),
        ("Fold", str(data.get("fold", ""))),
        ("Accuracy", f"{reached}{epoch}" if metrics else ""),
        *(("Changed", change) for change in card.get("changes", ())),
        ("Repeat it", command),
    ]  # fmt: skip
    return [(name, value) for name, value in lines if value]
