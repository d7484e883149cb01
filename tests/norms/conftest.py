"""The two ways in which layers are computed, for tests that hold for both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from normlab.norms.kernels import Kernels, computed_by, load


@pytest.fixture(scope="session")
def kernels(_own_cache: object) -> Kernels:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("there is no C compiler")
    return load()


@pytest.fixture(scope="module", params=["torch", "compiled"])
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs twice: with operations of PyTorch, and with the kernels forced."""
    chosen = request.getfixturevalue("kernels") if request.param == "compiled" else None
    with computed_by(chosen):
        yield
