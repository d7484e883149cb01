"""The residual network, its normalization sites, and the format of trained models on disk."""

from .bundle import ModelInfo, load_card, load_info, load_model, save_model
from .resnet import ResNet, layers_at_every_width
from .sites import Site, check_sites, needs_of, sites

__all__ = [
    "ModelInfo",
    "ResNet",
    "Site",
    "check_sites",
    "layers_at_every_width",
    "load_card",
    "load_info",
    "load_model",
    "needs_of",
    "save_model",
    "sites",
]
