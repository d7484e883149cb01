"""Print the table of docs/reliability.md.

PYTHONPATH=benchmarks:tests python -m torture [KIND ...] [--share S] [--parser NAME ...]

Kinds: kills, failures, disk, flips, fuzz, races; all by default. ``--share 0.01`` does a hundredth
of everything. ``--parser`` fuzzes only what it names. The exit status is 1 if anything came out
otherwise than promised.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence

import numpy
import torch

import normlab

from .disk import disk
from .failures import failures
from .flips import flips
from .fuzz import fuzz
from .kills import kills
from .races import races
from .rows import MADE, Row, table

KINDS: dict[str, Callable[[float, Sequence[str]], list[Row]]] = {
    "kills": lambda share, _: kills(max(3, round(200 * share))),
    "failures": lambda share, _: failures((1, 10**6) if share >= 1 else (1,)),
    "disk": lambda *_: disk(),
    "flips": lambda share, _: flips(max(12, round(1000 * share))),
    "fuzz": lambda share, only: fuzz(round(100_000 * share), only),
    "races": lambda share, _: races(max(1, round(50 * share))),
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked and print its table."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", choices=[[], *KINDS])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--parser", action="append", default=[], metavar="NAME")
    asked = parser.parse_args(arguments)
    print(
        f"normlab {normlab.__version__}, torch {torch.__version__}, NumPy {numpy.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}\n"
    )
    # Also where it runs in the background, with Ctrl-C ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for kind in asked.kinds or KINDS:
            began = time.monotonic()
            KINDS[kind](asked.share, asked.parser)
            print(f"{kind}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped: the table has what was done until then.", file=sys.stderr)
    rows = [row for row in MADE if row.tried]
    print(table(rows))
    for row in rows:
        for example in row.examples[:10]:
            print(f"\n{row.name}: {example}")
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
