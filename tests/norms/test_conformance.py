"""Every check on every layer that it is about."""

from __future__ import annotations

import pytest

from .checks import CHECKS, Check
from .families import FAMILIES, Family

CASES = [
    pytest.param(check, family, id=f"{family.name}-{check.name}")
    for family in FAMILIES.values()
    for check in CHECKS.values()
    if check.applies(family)
]


@pytest.mark.parametrize(("check", "family"), CASES)
def test_layer(check: Check, family: Family) -> None:
    check.run(family, family.spec.layer)
