"""The one exception for what a person can put right."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input: a file, option or value that a person can put right.

    The message names what was found and what to do. The command line prints it without a
    traceback and ends with status 2.

    >>> raise InputError("photos does not exist.")
    Traceback (most recent call last):
    normlab.errors.InputError: photos does not exist.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` when something close is known, else nothing.

    >>> did_you_mean("batchnorn", ["batchnorm", "groupnorm"])
    ' (did you mean batchnorm?)'
    >>> did_you_mean("xyz", ["batchnorm", "groupnorm"])
    ''
    >>> did_you_mean("nonsense", ["nesterov"])
    ''
    """
    # Two letters of which one is right are half alike, and so are long words by chance.
    plain = {name.lower(): name for name in known}
    cutoff = 0.5 if len(word) < 4 else 0.58
    close = difflib.get_close_matches(word.lower(), plain, n=1, cutoff=cutoff)
    return f" (did you mean {plain[close[0]]}?)" if close else ""


def told(error: BaseException) -> str:
    """What went wrong in code that is not ours, in one line: the kind, the words, and the place.

    >>> told(KeyError("scale"))
    "KeyError: 'scale'"
    """
    words = " ".join(str(error).split())[:300].rstrip(".")
    kind = type(error).__name__
    place = ""
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not frame.filename.startswith(("<", str(Path(__file__).parent)))
    ]
    if theirs and not isinstance(error, (ImportError, SyntaxError)):
        place = f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"
    return f"{kind}: {words}{place}" if words else f"{kind}{place}"
