"""Run the benchmarks of speed one after the other, and put their ratios on one page.

python benchmarks/bench.py [--data FOLDER] [--only NAME] [--out build/bench]

FOLDER has train, val and test with a folder for each class, of photographs. Without it photographs
are drawn (``photographs.py``). What each benchmark prints is shown and kept in NAME.txt; the
page has every ratio with its spread, and its goal where there is one. About an hour on two
processors that do nothing else: other work on the machine moves every figure.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import photographs
import torch
from ratios import KEPT, Ratio, read

from normlab import pages
from normlab.pages.tables import Cell, Column, Table

HERE = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def benchmarks(data: Path, out: Path) -> dict[str, list[str]]:
    """Each benchmark by name: its file, and what it is given."""
    folder = ["--data", str(data)]
    return {
        "kernels": ["kernels.py"],
        "memory": ["memory.py"],
        "saved": ["save_memory.py"],
        "reading": ["reading.py"],
        "overhead": ["overhead.py", *folder],
        "growth": ["growth.py", *folder, "--out", str(out / "growth.png")],
        "study": ["whole_study.py", *folder],
    }


def carry_out(name: str, command: list[str], out: Path, kept: Path) -> bool:
    """Show what a benchmark prints and keep it; whether it ended well."""
    script, *arguments = command
    whole = [sys.executable, str(HERE / script), *arguments]
    print(f"\n## {' '.join([f'benchmarks/{script}', *arguments])}\n", flush=True)
    # The whole study takes the machine as it is by default; the others measure one thread.
    environment = {**os.environ, **({} if name == "study" else ONE_THREAD), KEPT: str(kept)}
    with (out / f"{name}.txt").open("w", encoding="utf-8") as file:
        process = subprocess.Popen(whole, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
        return process.wait() == 0


def table(ratios: list[Ratio]) -> Table:
    """All ratios, in the order in which they were found."""
    heads = ("what", "ratio", "spread", "n", "goal")
    columns = tuple(Column(h, "left" if h in ("what", "goal") else "right") for h in heads)
    rows = tuple(
        (
            Cell(one.what, "text"),
            Cell(f"{one.median:.2f}"),
            Cell(f"{one.low:.2f} to {one.high:.2f}" if one.n > 1 else ""),
            Cell(str(one.n)),
            Cell(one.outcome, "text"),
        )
        for one in ratios
    )
    notes = ("Median of the repeats. Spread: quartiles, or all of them where there are up to 3.",)
    return Table(columns, rows, "Ratios", notes=notes)


def page(ratios: list[Ratio], machine: str, figure: Path) -> str:
    """One file that needs no other."""
    shown = ""
    if figure.exists():
        source = base64.b64encode(figure.read_bytes()).decode("ascii")
        shown = (
            '<h2>Growth</h2><img alt="Processor time by size, on log axes" style="max-width:100%" '
            f'src="data:image/png;base64,{source}">'
        )
    css = pages.inline("normlab.pages", "base.css")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>Ratios – normlab</title><style>{css}</style></head><body>'
        f"<header><h1>Ratios</h1><p>{machine}</p></header><main>"
        f'<div class="scroll">{table(ratios).html()}</div>{shown}</main></body></html>'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = given.data
    if data is None:
        data = photographs.drawn(out / "photographs")
    kept = out / "ratios.jsonl"
    kept.unlink(missing_ok=True)
    machine = (
        f"{datetime.date.today()}, {os.cpu_count()} processors, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    print(machine)
    failed = [
        name
        for name, command in benchmarks(data.resolve(), out).items()
        if (not given.only or name in given.only) and not carry_out(name, command, out, kept)
    ]
    ratios = read(kept)
    (out / "ratios.md").write_text(f"{machine}\n\n{table(ratios).markdown()}", encoding="utf-8")
    (out / "ratios.html").write_text(page(ratios, machine, out / "growth.png"), encoding="utf-8")
    print(f"\n{out / 'ratios.html'}")
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
