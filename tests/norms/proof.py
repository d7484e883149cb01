"""What the suite holds of each method, counted from the suite itself.

``PYTHONPATH=tests python -m norms.proof FILE`` writes the record from which ``docs/norms.md`` has
it.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from normlab.files import write_text
from normlab.norms import CATALOG, NormSpec

from . import convolutions
from .checks import CHECKS
from .families import FAMILIES, Family
from .mutants import MUTATIONS


def proof_of(spec: NormSpec) -> list[dict[str, Any]]:
    """Of each layer that the method puts into a network, its own first: names of the checks that
    hold it, those that do not and why, and how many planted mistakes are found."""
    found = []
    for part in dict.fromkeys((spec.layer, *spec.parts.classes())):
        families = [family for family in FAMILIES.values() if family.spec.layer is part]
        if families:
            found.append({"part": part.__name__, **_held(families)})
    if spec.name in convolutions.CONVOLUTIONS:
        mistakes = sum(spec.name in mistake.methods for mistake in convolutions.MISTAKES)
        found.append(
            {
                "part": spec.parts.convolution.__name__,
                "checks": [of_convolutions(name) for name in convolutions.CHECKS],
                "unlike": {},
                "mistakes": mistakes,
            }
        )
    return found


def of_convolutions(check: str) -> str:
    """The name of a check of convolutions among all checks, some of which are called alike."""
    return f"{check} (convolutions)"


def _held(families: list[Family]) -> dict[str, Any]:
    """A layer, with every choice of options that is tried."""
    names = {family.name for family in families}
    unlike = {check: why for family in families for check, why in family.unlike.items()}
    return {
        "checks": [
            name
            for name, check in CHECKS.items()
            if name not in unlike and any(map(check.applies, families))
        ],
        "unlike": unlike,
        "mistakes": sum(not names.isdisjoint(mutation.families) for mutation in MUTATIONS),
    }


def about(check: Any) -> str:
    """The first sentence of a check's docstring, if it has one."""
    said = inspect.getdoc(check) or ""
    return said.split("\n\n")[0].replace("\n", " ").replace("``", "`")


def record() -> dict[str, Any]:
    """All of it."""
    return {
        "checks": {
            **{name: about(check.run) for name, check in CHECKS.items()},
            **{of_convolutions(name): about(run) for name, run in convolutions.CHECKS.items()},
        },
        "methods": {spec.name: proof_of(spec) for spec in CATALOG.values()},
    }


def as_text() -> str:
    """The record as it is kept."""
    return json.dumps(record(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), as_text())
