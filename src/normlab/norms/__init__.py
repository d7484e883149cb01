"""Normalization layers for (N, C, H, W) tensors, each written out from its paper."""

from ._base import Norm2d, ParameterNeeds
from .batch import BatchNorm2d
from .batch_instance import BatchInstanceNorm2d
from .catalog import CATALOG, NormChoice, NormSpec, make_norm, name_of_layer, parse_norm
from .group import GroupNorm2d
from .instance import InstanceNorm2d
from .layer import LayerNormCHW
from .none import NoNorm2d

__all__ = [
    "CATALOG",
    "BatchInstanceNorm2d",
    "BatchNorm2d",
    "GroupNorm2d",
    "InstanceNorm2d",
    "LayerNormCHW",
    "NoNorm2d",
    "Norm2d",
    "NormChoice",
    "NormSpec",
    "ParameterNeeds",
    "make_norm",
    "name_of_layer",
    "parse_norm",
]
