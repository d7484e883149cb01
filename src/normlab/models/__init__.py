"""The residual network, its normalization sites, and the format of trained models on disk."""

from ..norms import name_of_layer
from .bundle import (
    check_model_trusted,
    code_of_model,
    has_checksum,
    load_card,
    load_info,
    load_model,
    not_finite,
    read_bundle,
    save_model,
)
from .card import command_of
from .concerns import Concern, concerns
from .custom import has_contiguous_input, make_layer
from .drawing import (
    drawn_by,
    generator_states,
    generators_kept,
    seed_generators,
    set_generator_states,
)
from .exchange import (
    NormActivation,
    NormLayer,
    OtherLayer,
    carry_over,
    exchanged,
    like,
    norm_layers,
    other_layers,
    split_fused,
    without_hooks,
)
from .info import ModelInfo
from .resnet import ResNet, layers_at_every_width
from .sites import (
    Site,
    check_sites,
    followers,
    needs_of,
    other_parts,
    outside_sites,
    schedules_of,
    sites,
)
from .state import packed, unpacked

__all__ = [
    "Concern",
    "ModelInfo",
    "NormActivation",
    "NormLayer",
    "OtherLayer",
    "ResNet",
    "Site",
    "carry_over",
    "check_model_trusted",
    "check_sites",
    "concerns",
    "followers",
    "code_of_model",
    "command_of",
    "drawn_by",
    "exchanged",
    "generator_states",
    "generators_kept",
    "has_checksum",
    "has_contiguous_input",
    "layers_at_every_width",
    "like",
    "load_card",
    "load_info",
    "load_model",
    "make_layer",
    "name_of_layer",
    "needs_of",
    "norm_layers",
    "not_finite",
    "other_layers",
    "other_parts",
    "outside_sites",
    "packed",
    "read_bundle",
    "save_model",
    "schedules_of",
    "seed_generators",
    "set_generator_states",
    "sites",
    "split_fused",
    "unpacked",
    "without_hooks",
]
