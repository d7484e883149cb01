"""Conformance of the normalization layers, driven by the specs of the catalogue."""
