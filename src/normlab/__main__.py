"""``python -m normlab``."""

import os
import sys
from contextlib import suppress
from pathlib import Path

# Python puts the working folder first, so that a file there could stand in for any package. The
# command that is installed does not do so either.
with suppress(FileNotFoundError):  # a working folder that has been removed
    here = os.getcwd()  # noqa: PTH109 - as Python writes it
    if sys.path[0] in ("", here) and Path(__file__).resolve().parents[1] != Path(here).resolve():
        del sys.path[0]

from .cli import main

sys.exit(main())
