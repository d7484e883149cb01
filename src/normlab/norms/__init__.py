"""Normalization layers for (N, C, H, W) tensors, each written out from its paper."""

from ._base import Norm2d, ParameterNeeds, PlainNorm2d
from .catalog import CATALOG, NormChoice, make_norm, name_of_layer, parse_norm
from .methods.batch import BatchNorm2d
from .methods.batch_instance import BatchInstanceNorm2d
from .methods.batch_renorm import BatchRenorm2d
from .methods.derf import DynamicErf2d
from .methods.divisive import DivisiveNorm2d
from .methods.dyt import DynamicTanh2d
from .methods.evonorm import ChannelAffine2d, EvoNorm2dB0, EvoNorm2dS0
from .methods.extended_batch import ExtendedBatchNorm2d
from .methods.filter_response import FilterResponseNorm2d, ThresholdedLinearUnit2d
from .methods.fixup import FixupBias2d, FixupConv2d, FixupScale2d
from .methods.frozen_batch import FrozenBatchNorm2d
from .methods.ghost_batch import GhostBatchNorm2d
from .methods.grn import GlobalResponseNorm2d
from .methods.group import GroupNorm2d
from .methods.ibn import InstanceBatchNorm2d
from .methods.instance import InstanceNorm2d
from .methods.instance_enhanced import InstanceEnhancedBatchNorm2d
from .methods.layer import LayerNormCHW
from .methods.lrn import LocalResponseNorm2d
from .methods.none import NoNorm2d
from .methods.pixel_ln import LayerNorm2d
from .methods.position import PositionNorm2d
from .methods.proxy import ProxyGroupNorm2d
from .methods.rms import RMSNormCHW
from .methods.scaled_ws import ScaledSkipInit2d, ScaledStandardizedConv2d
from .methods.skipinit import SkipInit2d
from .methods.switchable import SwitchableNorm2d
from .methods.sync_batch import SyncBatchNorm2d
from .methods.weight_norm import WeightNormConv2d
from .methods.weight_standardization import HeStandardizedConv2d, StandardizedConv2d
from .places import Parts, Place
from .schedules import Ramp
from .spec import FAMILIES, NormSpec

__all__ = [
    "CATALOG",
    "FAMILIES",
    "BatchInstanceNorm2d",
    "BatchNorm2d",
    "BatchRenorm2d",
    "ExtendedBatchNorm2d",
    "FrozenBatchNorm2d",
    "GhostBatchNorm2d",
    "GroupNorm2d",
    "InstanceEnhancedBatchNorm2d",
    "DynamicErf2d",
    "DynamicTanh2d",
    "FixupBias2d",
    "FixupConv2d",
    "FixupScale2d",
    "HeStandardizedConv2d",
    "DivisiveNorm2d",
    "GlobalResponseNorm2d",
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
    "Ramp",
    "SyncBatchNorm2d",
    "ScaledSkipInit2d",
    "ScaledStandardizedConv2d",
    "SkipInit2d",
    "StandardizedConv2d",
    "WeightNormConv2d",
    "ProxyGroupNorm2d",
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
