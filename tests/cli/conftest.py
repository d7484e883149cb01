"""Pictures of charts are drawn by the tests of the report, and by commands in other processes."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _blank(blank_pictures: None) -> None: ...
