"""Normalization layers for (N, C, H, W) tensors, each written out from its paper."""

from ._base import Norm2d, ParameterNeeds, PlainNorm2d
from .catalog import CATALOG, NormChoice, make_norm, name_of_layer, parse_norm
from .methods.batch import BatchNorm2d
from .methods.batch_instance import BatchInstanceNorm2d
from .methods.evonorm import ChannelAffine2d, EvoNorm2dB0, EvoNorm2dS0
from .methods.filter_response import FilterResponseNorm2d, ThresholdedLinearUnit2d
from .methods.group import GroupNorm2d
from .methods.instance import InstanceNorm2d
from .methods.layer import LayerNormCHW
from .methods.none import NoNorm2d
from .methods.pixel_ln import LayerNorm2d
from .methods.position import PositionNorm2d
from .methods.rms import RMSNormCHW
from .methods.switchable import SwitchableNorm2d
from .places import Parts, Place
from .spec import FAMILIES, NormSpec

__all__ = [
    "CATALOG",
    "FAMILIES",
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
    "Parts",
    "Place",
    "PlainNorm2d",
    "make_norm",
    "name_of_layer",
    "parse_norm",
    "ChannelAffine2d",
    "EvoNorm2dB0",
    "EvoNorm2dS0",
    "FilterResponseNorm2d",
    "ThresholdedLinearUnit2d",
    "LayerNorm2d",
    "PositionNorm2d",
    "RMSNormCHW",
    "SwitchableNorm2d",
]
