"""The command: ``normlab`` and ``python -m normlab``.

Signals are handled from here on, while everything else is still being imported, until the end.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

# Python puts the working folder first, so that a file there could stand in for any package. The
# command that is installed does not do so either.
with suppress(FileNotFoundError):  # a working folder that has been removed
    here = os.getcwd()  # noqa: PTH109 - as Python writes it
    if sys.path[0] in ("", here) and Path(__file__).resolve().parents[1] != Path(here).resolve():
        del sys.path[0]

from .stopping import SIGNALS, Stopped, handled


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        with handled():
            from .cli import main as command

            status = command()
    except KeyboardInterrupt as stopped:
        if sys.stderr is not None:
            print("normlab: Stopped.", file=sys.stderr)
        status = stopped.status if isinstance(stopped, Stopped) else 130
    # All is done; whatever comes while the interpreter ends changes nothing.
    for number in SIGNALS:
        with suppress(ValueError, OSError):
            signal.signal(number, lambda *_: os._exit(status))
    return status


if __name__ == "__main__":
    sys.exit(main())
