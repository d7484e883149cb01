"""The checks are worth something: each planted mistake is found by the check that must find it."""

from __future__ import annotations

import pytest

from .checks import CHECKS, Check
from .families import FAMILIES, SEVEN, Family
from .mutants import MUTATIONS, Mutation, Written, mutants, with_mistake

CASES = [
    pytest.param(mutation, family, check, id=f"{family.name}-{mutation.name}-{check}")
    for mutation, family in mutants()
    for check in mutation.caught_by
]


@pytest.mark.parametrize(("mutation", "family", "check"), CASES)
def test_mutation_is_caught(mutation: Mutation, family: Family, check: str) -> None:
    assert CHECKS[check].applies(family), "the check is not run for this family"
    with pytest.raises(AssertionError):
        CHECKS[check].run(family, mutation.applied_to(family))


# The plain implementation is wasteful, refuses nothing and knows of one process, by design.
NOT_OF_THE_PLAIN_ONE = {
    "a_divided_batch_counts_as_one",
    "saves_no_more_than_torch",
    "edges_have_a_value_or_a_clear_error",
    "wrong_input_is_refused",
}


@pytest.mark.parametrize(
    ("check", "family"),
    [
        pytest.param(check, family, id=f"{family.name}-{check.name}")
        for family in map(FAMILIES.__getitem__, SEVEN)
        for check in CHECKS.values()
        if family.standardizes and check.applies(family) and check.name not in NOT_OF_THE_PLAIN_ONE
    ],
)
def test_without_a_mutation_the_plain_implementation_passes(check: Check, family: Family) -> None:
    """So what is found above is the mutation; and two implementations say the same."""
    check.run(family, with_mistake(family, Written))


def test_every_check_has_caught_something() -> None:
    assert {check for mutation in MUTATIONS for check in mutation.caught_by} == set(CHECKS)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_at_least_four_mutants(name: str) -> None:
    assert sum(name in mutation.families for mutation in MUTATIONS) >= 4


def test_names_are_different() -> None:
    names = [mutation.name for mutation in MUTATIONS]
    assert len(names) == len(set(names))
