"""The data: what was read, how many images of each class, and what could not be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pages.tables import Cell, Column, Table
from ....pages.words import counted, listed
from ....results import Results
from ....results.folds import Folds
from ....runs.integrity import is_listed
from ....runs.study_file import unsealed
from ....splits import SPLIT_WORDS, SPLITS
from ...context import Report
from ...section import FolderSection

MANY_CLASSES = 12
"""Above this the table of counts is folded."""


class ProvenanceSection(FolderSection):
    """Facts, counts, and files that were skipped."""

    heading = "Data"

    def context(self, report: Report) -> Mapping[str, Any]:
        """What data.json says."""
        data = report.data
        counts = _counts_table(data)
        return {
            "notes": [*(str(note) for note in data.get("notes", ())), *_unchecked(report.results)],
            "facts": _facts(data),
            "counts": counts.html("dense") if counts.rows else None,
            "classes": len(counts.rows),
            "folded": len(counts.rows) > MANY_CLASSES,
            "skipped": _skipped(data),
        }


def _unchecked(results: Results) -> list[str]:
    """What could be damaged without anybody noticing."""
    ended = [run for run in results.runs if run.ended]
    without = [run for run in ended if not is_listed(run.record)]
    said = []
    if without:
        many = len(without) > 1
        which = (
            f"All {len(ended)} runs"
            if many and len(without) == len(ended)
            else f"{len(without)} of {counted(len(ended), 'run')}"
        )
        said.append(
            f"{which} {'were' if many else 'was'} written by an earlier version of normlab, "
            f"without checksums. Damage in {'their' if many else 'its'} files is noticed only "
            "where files contradict each other."
        )
    files = unsealed(results.folder)
    if files:
        has = "have" if len(files) > 1 else "has"
        said.append(
            f"{listed(files)} {has} no checksum, as earlier versions of normlab wrote "
            f"{'them' if len(files) > 1 else 'it'}. Damage in {'them' if len(files) > 1 else 'it'} "
            "could not be noticed."
        )
    return said


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    policy = data.get("split_policy", {})
    of_first = " (seed 0)" if data.get("folds") else ""
    facts = [
        ("Source", str(data.get("source", ""))),
        ("Kind", str(data.get("kind", ""))),
        ("Resizing", str(data.get("resize_rule", ""))),
        ("Splits", _splits(policy)),
        ("Seed of the split", str(data.get("split_seed", ""))),
        (f"Mean of the training pixels{of_first}", _decimals(data.get("mean", ()))),
        ("Their standard deviation", _decimals(data.get("std", ()))),
        ("Fingerprint", str(data.get("fingerprint", ""))),
    ]
    return [fact for fact in facts if fact[1]]


def _splits(policy: Mapping[str, Any]) -> str:
    """How the splits came about, said once where it is the same for all."""
    ways = {str(said) for said in policy.values()}
    if len(ways) == 1:
        return ways.pop()
    return "; ".join(f"{split}: {said}" for split, said in policy.items())


def _decimals(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _counts_table(data: Mapping[str, Any]) -> Table:
    counts = data.get("counts", {})
    folds = Folds.of(data)
    if folds is not None:
        return Table(
            (Column("class", "left"), Column("images")),
            tuple(
                (Cell(str(name), "text"), Cell(f"{int(folds.counts.get(name, 0)):,}"))
                for name in data.get("classes", ())
            ),
            caption="Images of each class",
        )
    return Table(
        (Column("class", "left"), *(Column(SPLIT_WORDS[split]) for split in SPLITS)),
        tuple(
            (Cell(str(name), "text"),
             *(Cell(f"{int(counts.get(split, {}).get(name, 0)):,}") for split in SPLITS))
            for name in data.get("classes", ())
            if counts
        ),
        caption="Images of each class",
    )  # fmt: skip


def _skipped(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    skipped = data.get("skipped", {})
    if isinstance(skipped, Mapping):
        return [(str(name), str(why)) for name, why in skipped.items()]
    return [(str(name), "") for name in skipped]
