"""What is fuzzed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from normlab.seals import SEAL


@dataclass(frozen=True)
class Parser:
    """What reads a kind of file.

    Attributes:
        seeds: examples.
        place: where the content has to lie.
        read: reads it. Success and ``InputError`` are good, anything else is a failure.
    """

    seeds: Sequence[bytes]
    place: Path
    read: Callable[[], object]


def unsealed(content: bytes) -> bytes:
    """A record without its seal, and without the hashes of other files."""
    if content.lstrip().startswith(b"{"):
        parsed = json.loads(content)
        for name in (SEAL, "files"):
            parsed.pop(name, None)
        return json.dumps(parsed, indent=2).encode()
    return re.sub(rb"(?m)^# sha256: .*\n\Z", b"", content)
