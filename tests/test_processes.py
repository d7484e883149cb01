"""A process that joblib replaces is not an error."""

from __future__ import annotations

import inspect
import re
import warnings

import pytest
from joblib.externals.loky import process_executor

from normlab.processes import expect_replaced_processes


def test_joblibs_own_warning_is_expected_and_no_other() -> None:
    source = re.sub(r'"\s+"', "", inspect.getsource(process_executor))
    (message,) = set(re.findall(r'"(A worker stopped while some jobs[^"]*)"', source))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="A worker stopped"):
            warnings.warn(message, UserWarning, stacklevel=1)
        expect_replaced_processes()
        warnings.warn(message, UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="another"):
            warnings.warn("another", UserWarning, stacklevel=1)
