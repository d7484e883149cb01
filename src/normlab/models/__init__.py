"""The residual network, its normalization sites, and the format of trained models on disk."""

from .bundle import ModelInfo, load_card, load_info, load_model, save_model
from .resnet import ResNet
from .sites import Site, check_sites, sites

__all__ = [
    "ModelInfo",
    "ResNet",
    "Site",
    "check_sites",
    "load_card",
    "load_info",
    "load_model",
    "save_model",
    "sites",
]
