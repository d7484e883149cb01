"""The one exception for what a person can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """
    plain = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), plain, n=1, cutoff=0.5)
    return f" (did you mean {plain[close[0]]}?)" if close else ""
