"""Torture: kills, failing disks, flipped bits, hostile input, races. See ``python -m torture``."""
