"""What is to be known of the worker processes that joblib makes."""

from __future__ import annotations

import warnings

_REPLACED = "A worker stopped while some jobs were given to the executor"


def expect_replaced_processes() -> None:
    """Expect joblib to replace a process that has grown, as it does where psutil is installed.

    Our processes keep the memory that they used, on purpose, so that is neither news to a person
    nor, where warnings are errors, a reason to end the thread that hands out the work.
    """
    warnings.filterwarnings("ignore", _REPLACED, UserWarning)
