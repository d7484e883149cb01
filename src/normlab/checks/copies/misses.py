"""What the search for near copies misses, by the bench on kinds of images that it was not adjusted
to. The page says so where there is something to say."""

from __future__ import annotations

MISSED: tuple[tuple[str, float, float], ...] = (
    ("Saved again (JPEG quality 30 to 60)", 0.0, 0.03),
    ("Made smaller (50 to 75 % of a side)", 0.0, 0.08),
    ("Brightened or darkened", 0.0, 0.13),
    ("Mirrored, with quarter turns", 0.0, 0.02),
    ("Turned by 3 to 7°, black corners", 0.0, 0.10),
    ("Cropped to 90 to 96 % of a side", 0.0, 0.12),
    ("Cropped to 80 to 87 % of a side", 0.02, 0.23),
    ("Turned by 5 to 15° and enlarged", 0.0, 0.15),
    ("Several of these at once", 0.02, 0.27),
    ("Turned grey", 0.0, 0.33),
    ("Under a watermark", 0.05, 0.15),
    ("Any of these, in images below 32 pixels", 0.02, 1.0),
)
"""A way of copying in words, and the least and the largest share of such copies that is missed over
the kinds of images of the bench (``benchmarks/copies``, docs/data-checks.md)."""
