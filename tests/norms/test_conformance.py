"""Every check on every layer that it is about."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from normlab.norms.kernels import computed_by

from . import reference
from .checks import CHECKS, Check, low_precision_cases
from .conftest import Counted
from .families import FAMILIES, Family

CASES = [
    pytest.param(check, family, compiled, id=f"{family.name}-{check.name}" + "-compiled" * compiled)
    for family in FAMILIES.values()
    for compiled in ((False, True) if family.compiled else (False,))
    for check in CHECKS.values()
    if check.applies(family)
]


@pytest.fixture
def chosen(request: pytest.FixtureRequest, compiled: bool) -> Iterator[Counted | None]:
    found = Counted(request.getfixturevalue("kernels")) if compiled else None
    with computed_by(found):  # type: ignore[arg-type]
        yield found


@pytest.mark.parametrize(("check", "family", "compiled"), CASES)
def test_layer(check: Check, family: Family, compiled: bool, chosen: Counted | None) -> None:
    check.run(family, family.spec.layer)
    if chosen is not None and check.name.startswith("low_precision"):
        # Each type, layout and mode went through them; not backward of what pools nothing.
        assert chosen.calls["forward"] == len(list(low_precision_cases()))
        backward = "gradients" in check.name and family.normalizes
        assert (chosen.calls["backward"] > 0) == backward


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_has_something_of_its_own_to_be_compared_with(name: str) -> None:
    """A formula that the loops can evaluate, or a loop of its own; and the same in PyTorch, for
    what loops cannot supply."""
    family = FAMILIES[name]
    state = {key: t.numpy() for key, t in family.make().state_dict().items()}
    by_loops = reference.can_evaluate(family.spec, state) or family.spec.name in reference.LOOPED
    assert by_loops or family.spec.twin
    assert family.counterpart() is not None


def test_a_check_that_does_not_hold_says_why() -> None:
    for family in FAMILIES.values():
        assert set(family.unlike) <= set(CHECKS), family.name
        assert all(len(reason.split()) >= 4 for reason in family.unlike.values()), family.name


def test_references_are_those_of_layers_that_torch_does_not_have() -> None:
    with_twin = {family.spec.name for family in FAMILIES.values() if family.spec.twin}
    assert not with_twin & set(reference.WRITTEN)
