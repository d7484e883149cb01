"""A watcher of comparisons that keeps what it is told."""

from __future__ import annotations

from typing import Any


class KeepingWatcher:
    """Keeps warnings, and how the runs of each arm ended."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.ended: dict[str, str] = {}

    def reading(self, *_: object) -> None: ...
    def planned(self, *_: object) -> None: ...
    def stage(self, *_: object) -> None: ...
    def started(self, *_: object) -> None: ...
    def advanced(self, *_: object) -> None: ...

    def finished(self, arm: str, seed: int, record: dict[str, Any]) -> None:
        self.ended[arm] = record["status"]

    def warned(self, text: str) -> None:
        self.warnings.append(text)
