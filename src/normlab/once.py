"""What is derived from an object once, and kept with it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class Once:
    """Keeps what was derived from an object, so that it goes when the object goes."""

    @cached_property
    def _derived(self) -> dict[Hashable, Any]:
        return {}

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What was derived from this object under a name; derived on first use."""
        if name not in self._derived:
            self._derived[name] = make()
        made: T = self._derived[name]
        return made

    def put(self, name: Hashable, made: T) -> None:
        """Keep something under a name, in place of what may have been derived before."""
        self._derived[name] = made
