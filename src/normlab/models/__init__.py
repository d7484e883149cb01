"""The residual network, its normalization sites, and the format of trained models on disk."""

from ..norms import name_of_layer
from .bundle import ModelInfo, load_card, load_info, load_model, not_finite, save_model
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
    "name_of_layer",
    "needs_of",
    "not_finite",
    "save_model",
    "sites",
]
