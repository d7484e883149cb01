"""Normalization layers for (N, C, H, W) tensors, each written out from its paper."""

from ._base import Norm2d, ParameterNeeds, PlainNorm2d
from .catalog import CATALOG, NormChoice, make_norm, name_of_layer, parse_norm
from .methods.batch import BatchNorm2d
from .methods.batch_instance import BatchInstanceNorm2d
from .methods.divisive import DivisiveNorm2d
from .methods.grn import GlobalResponseNorm2d
from .methods.group import GroupNorm2d
from .methods.ibn import InstanceBatchNorm2d
from .methods.instance import InstanceNorm2d
from .methods.layer import LayerNormCHW
from .methods.lrn import LocalResponseNorm2d
from .methods.none import NoNorm2d
from .methods.proxy import ProxyGroupNorm2d
from .places import Parts, Place
from .spec import FAMILIES, NormSpec

__all__ = [
    "CATALOG",
    "FAMILIES",
    "BatchInstanceNorm2d",
    "BatchNorm2d",
    "DivisiveNorm2d",
    "GlobalResponseNorm2d",
    "GroupNorm2d",
    "InstanceBatchNorm2d",
    "InstanceNorm2d",
    "LayerNormCHW",
    "LocalResponseNorm2d",
    "NoNorm2d",
    "Norm2d",
    "NormChoice",
    "NormSpec",
    "ParameterNeeds",
    "Parts",
    "Place",
    "PlainNorm2d",
    "ProxyGroupNorm2d",
    "make_norm",
    "name_of_layer",
    "parse_norm",
]
