"""What the search for near copies misses, by the bench on kinds of images that it was not adjusted
to. The page says so where there is something to say."""

from __future__ import annotations

MISSED: tuple[tuple[str, float, float], ...] = (
    ("Saved again (JPEG quality 30 to 60)", 0.0, 0.08),
    ("Made smaller (50 to 75 % of a side)", 0.0, 0.10),
    ("Brightened or darkened", 0.0, 0.08),
    ("Mirrored, with quarter turns", 0.0, 0.0),
    ("Turned by 3 to 7°, black corners", 0.0, 0.22),
    ("Cropped to 90 to 96 % of a side", 0.0, 0.10),
    ("Cropped to 80 to 87 % of a side", 0.03, 0.20),
    ("Turned by 5 to 15° and enlarged", 0.0, 0.08),
    ("Several of these at once", 0.0, 0.23),
    ("In other colours", 0.0, 0.07),
    ("Stretched by 5 to 15 %", 0.0, 0.03),
    ("Turned grey", 0.0, 0.18),
    ("Under a watermark", 0.02, 0.33),
    ("Any of these, in images of 32 pixels", 0.0, 0.95),
    ("Any of these, in images below 32 pixels", 0.0, 1.0),
)
"""A way of copying in words, and the least and the largest share of such copies that is missed over
the kinds of images of the bench (``benchmarks/copies``, docs/data-checks.md)."""
