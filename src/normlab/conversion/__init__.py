"""A trained model in another form.

Light to import: what computes is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .export import ExportReport, export_onnx

_HOME = {
    "export": ("ExportReport", "export_onnx"),
}

__all__ = ["ExportReport", "export_onnx"]

__getattr__, __dir__ = names_of(__name__, _HOME)
