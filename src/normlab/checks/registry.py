"""The checks of the data, in the order in which they run and in which they report."""

from __future__ import annotations

from typing import Any

from .copies.checks import EXACT, NEAR
from .groups.checks import GROUPS
from .health.checks import HEALTH
from .protocol import Check
from .shortcuts.checks import SHORTCUTS

CHECKS: tuple[Check[Any], ...] = (EXACT, NEAR, GROUPS, SHORTCUTS, HEALTH)
