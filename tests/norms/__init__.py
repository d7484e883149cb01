"""Conformance of the normalization layers, driven by the specs of the catalogue."""

import pytest

# The checks are not in test files; this gives their bare asserts pytest's explanations.
pytest.register_assert_rewrite(f"{__name__}.checks")

from . import methods  # noqa: E402, F401 - their references, families and mutants enter themselves
