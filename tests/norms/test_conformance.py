"""Every check on every layer that it is about."""

from __future__ import annotations

import pytest

from normlab.norms import CATALOG

from . import reference
from .checks import CHECKS, Check
from .families import FAMILIES, Family

pytestmark = pytest.mark.usefixtures("each_way")

CASES = [
    pytest.param(check, family, id=f"{family.name}-{check.name}")
    for family in FAMILIES.values()
    for check in CHECKS.values()
    if check.applies(family)
]


@pytest.mark.parametrize(("check", "family"), CASES)
def test_layer(check: Check, family: Family) -> None:
    check.run(family, family.spec.layer)


@pytest.mark.parametrize("name", CATALOG)
def test_every_layer_has_something_of_its_own_to_be_compared_with(name: str) -> None:
    spec = CATALOG[name]
    other = reference.counterpart(spec)(FAMILIES[name].channels if name in FAMILIES else 6)
    state = {key: t.numpy() for key, t in other.state_dict().items()}
    assert reference.can_evaluate(spec, state) or spec.name in reference.WRITTEN or spec.twin


def test_references_are_those_of_layers_that_torch_does_not_have() -> None:
    without = {name for name, spec in CATALOG.items() if spec.twin is None}
    assert set(reference.WRITTEN) == without
