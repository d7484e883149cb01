"""Records with one thing wrong: for tests of readers, and for ``benchmarks/torture``."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 5, 10**12, 2**63, 10**400, 0.5, -0.5, 1e300, 1e-300, float("inf"),
    float("-inf"), float("nan"), "", "nan", "inf", "x" * 3000, "../../x", "/tmp/x", "=cmd()", "\0",
    "\x1b[31m", "\ufffe", "\u202e", "<script>", "complete", "bn", [], [1], ["a", "a"], [[]], {},
    {"a": 1}, {"": {}},
)  # fmt: skip
"""What a field may hold that was meant for something else."""
Path = tuple[str | int, ...]


def paths(content: Any, above: Path = ()) -> Iterator[Path]:
    """The place of every value in tables and lists."""
    inner: Any = ()
    if isinstance(content, dict):
        inner = content.items()
    elif isinstance(content, list):
        inner = enumerate(content)
    for key, value in inner:
        yield (*above, key)
        yield from paths(value, (*above, key))


def mutated(content: dict[str, Any], count: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies with one thing wrong, and what it is: a value replaced, left out, doubled or renamed.

    Every place is tried once before any is tried again. The same seed gives the same copies.

    Args:
        content: of a record.
        count: how many.
        seed: of the draws.
    """
    draw = random.Random(seed)
    places: list[Path] = []
    for _ in range(count):
        if not places:
            places = list(paths(content))
            draw.shuffle(places)
        *above, last = places.pop()
        made = copy.deepcopy(content)
        inside: Any = made
        for key in above:
            inside = inside[key]
        kind = draw.choice(("value", "value", "value", "value", "missing", "twice", "renamed"))
        if kind == "missing":
            del inside[last]
        elif kind == "twice" and isinstance(inside, list):
            inside.insert(draw.randrange(len(inside) + 1), copy.deepcopy(inside[last]))
        elif kind == "renamed" and isinstance(inside, dict):
            inside[draw.choice(("", "../x", "\0", "norm", "x" * 300))] = inside.pop(last)
        else:
            kind = "value"
            inside[last] = draw.choice(VALUES)
        was = inside.get(last) if isinstance(inside, dict) else inside
        yield f"{kind} at {'.'.join(map(str, (*above, last)))}: {was!r:.60}", made
