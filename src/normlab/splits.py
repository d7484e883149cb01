"""The three splits of a data set, by name and in words."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test"}
