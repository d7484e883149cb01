"""What the search for near copies misses, by the bench on kinds of images that it was not adjusted
to. The page says so where there is something to say."""

from __future__ import annotations

MISSED: tuple[tuple[str, float, float], ...] = ()
"""A way of copying in words, and the least and the largest share of such copies that is missed over
the kinds of images of the bench (``benchmarks/copies.py``, docs/data-checks.md)."""
