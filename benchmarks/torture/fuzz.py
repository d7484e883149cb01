"""Fuzzed input for every parser, guided by coverage (atheris): no crash, no hang, no flood."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from normlab.errors import InputError

from .parsers import parsers
from .rows import Row
from .scene import cached_in, environment

SECONDS = 2
"""Longest time for one input."""
MEMORY = 500
"""Most memory for one input, in MiB."""
_LARGEST = 64 << 10
_HANDLED = "read or refused"


def fuzz(inputs: int, only: Sequence[str] = ()) -> list[Row]:
    """``inputs`` of them for each parser, or for those of these names, each parser in a process of
    its own."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        base = Path(temporary) / "listed"
        with cached_in(Path(temporary) / "cache"):
            names = list(parsers(base, only))
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise SystemExit(f"No parser {unknown[0]!r}. There are: {', '.join(names)}.")
    for name in only or names:
        row = Row(f"fuzzed {name}", (_HANDLED,))
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
            ended = subprocess.run(
                [sys.executable, "-m", "torture.fuzz", name, str(inputs), temporary],
                env=environment(Path(temporary) / "cache"),
                capture_output=True,
                text=True,
                errors="replace",
            )
        row.seconds = time.monotonic() - began
        done = re.findall(r"^Done (\d+) runs", ended.stderr, re.MULTILINE)
        if done and ended.returncode == 0:
            row.outcomes[_HANDLED] = int(done[-1])
        else:
            tried = re.findall(r"^#(\d+)", ended.stderr, re.MULTILINE)
            row.outcomes[_HANDLED] = max(0, int(tried[-1]) if tried else 0)
            row.add("FAILED", _told(ended.stdout, ended.stderr))
        print(f"{row.name}: {row.tried:,} in {row.seconds:.0f} s", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def _told(out: str, err: str) -> str:
    """The exception if there was one, else what the fuzzer says."""
    _, found, raised = out.partition("=== Uncaught Python exception: ===")
    if found:
        return "\n".join(raised.strip().splitlines()[:1] + raised.strip().splitlines()[-6:])
    said = [line for line in err.splitlines() if not line.startswith(("INFO:", "#", "WARNING:"))]
    return "\n".join(line[:300] for line in said[-12:])


def _one(name: str, inputs: int, base: Path) -> None:
    """In the process of a parser; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["normlab", "tomllib", "json", "zipfile", "csv"]):
        parser = parsers(base / "scene", [name])[name]
    corpus = base / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(parser.seeds):
        (corpus / str(number)).write_bytes(seed)

    def one(content: bytes) -> None:
        parser.place.write_bytes(content)
        try:
            parser.read()
        except InputError:
            return

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-runs={inputs}",
            f"-timeout={SECONDS}",
            f"-rss_limit_mb={before + MEMORY}",
            f"-max_len={_LARGEST}",
            f"-artifact_prefix={base}/",
            "-seed=1",
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    _one(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
