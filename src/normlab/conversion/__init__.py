"""A trained model in another form: with another normalization, or as another format.

Light to import: what computes is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .converting import Conversion, ConvertedSite, can_be_matched, convert
    from .export import ExportReport, export_onnx
    from .folding import Folding, fold
    from .freezing import freeze
    from .recalibration import Recalibration, recalibrate

_HOME = {
    "converting": ("Conversion", "ConvertedSite", "can_be_matched", "convert"),
    "export": ("ExportReport", "export_onnx"),
    "folding": ("Folding", "fold"),
    "freezing": ("freeze",),
    "recalibration": ("Recalibration", "recalibrate"),
}

__all__ = [
    "Conversion",
    "ConvertedSite",
    "ExportReport",
    "Folding",
    "Recalibration",
    "can_be_matched",
    "convert",
    "export_onnx",
    "fold",
    "freeze",
    "recalibrate",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
