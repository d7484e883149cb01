"""The two ways in which layers are computed, for tests that hold for both; and kernels that count
their calls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from normlab.norms.kernels import Kernels, computed_by, load

KERNELS = ("forward", "backward", "add_relu")


class Counted:
    """Kernels that count their calls."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels, self.calls = kernels, dict.fromkeys(KERNELS, 0)

    def __getattr__(self, name: str) -> Any:
        if name in self.calls:
            self.calls[name] += 1
        return getattr(self.kernels, name)


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


@pytest.fixture
def counted(kernels: Kernels) -> Iterator[Counted]:
    found = Counted(kernels)
    with computed_by(found):  # type: ignore[arg-type]
        yield found
