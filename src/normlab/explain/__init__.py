"""What a trained network looks at, and how far its maps can be trusted.

Light to import: what computes and draws is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import names_of

if TYPE_CHECKING:
    from .exhibit import Exhibit, ExplainedModel
    from .faithfulness import Curves, Faithfulness
    from .gallery import Gallery, write_gallery
    from .grids import cell_grid, followed_grid
    from .maps import METHODS, explain_batch
    from .placing import Axis, Grid, place, upsample
    from .randomization import RandomizationStep, randomization_check
    from .selection import RULE, Chosen, Selection, choose
    from .sites import (
        LastStage,
        averaged_for,
        in_logit_units,
        last_site,
        last_stage,
        last_stage_sites,
        resolve_site,
    )

_HOME = {
    "exhibit": ("Exhibit", "ExplainedModel"),
    "faithfulness": ("Curves", "Faithfulness"),
    "gallery": ("Gallery", "write_gallery"),
    "grids": ("cell_grid", "followed_grid"),
    "maps": ("METHODS", "explain_batch"),
    "placing": ("Axis", "Grid", "place", "upsample"),
    "randomization": ("RandomizationStep", "randomization_check"),
    "selection": ("Chosen", "RULE", "Selection", "choose"),
    "sites": (
        "LastStage",
        "averaged_for",
        "in_logit_units",
        "last_site",
        "last_stage",
        "last_stage_sites",
        "resolve_site",
    ),
}

__all__ = [
    "METHODS",
    "explain_batch",
    "LastStage",
    "last_stage",
    "last_site",
    "last_stage_sites",
    "resolve_site",
    "averaged_for",
    "in_logit_units",
    "Axis",
    "Grid",
    "cell_grid",
    "followed_grid",
    "place",
    "upsample",
    "Curves",
    "Faithfulness",
    "RandomizationStep",
    "randomization_check",
    "RULE",
    "Selection",
    "Chosen",
    "choose",
    "Exhibit",
    "ExplainedModel",
    "Gallery",
    "write_gallery",
]

__getattr__, __dir__ = names_of(__name__, _HOME)
