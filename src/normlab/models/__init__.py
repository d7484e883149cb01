"""The residual network, its normalization sites, and the format of trained models on disk."""

from ..norms import name_of_layer
from ..runs import AS_IS
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
from .custom import has_contiguous_input, make_layer, takes_contiguous
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
from .initial import Loaded, digest_of_weights, start_from
from .modes import in_evaluation, modes_kept
from .networks import (
    OURS,
    NetworkChoice,
    build_network,
    check_method,
    classifier_of,
    completed,
    is_placeless,
    misfit,
    parse_network,
)
from .resnet import ResNet, layers_at_every_width
from .sites import (
    Site,
    check_sites,
    declared,
    followers,
    needs_of,
    other_parts,
    outside_sites,
    schedules_of,
    sites,
)
from .state import packed, unpacked

__all__ = [
    "AS_IS",
    "OURS",
    "Concern",
    "Loaded",
    "ModelInfo",
    "NetworkChoice",
    "NormActivation",
    "NormLayer",
    "OtherLayer",
    "ResNet",
    "Site",
    "build_network",
    "carry_over",
    "check_method",
    "check_model_trusted",
    "check_sites",
    "concerns",
    "followers",
    "classifier_of",
    "code_of_model",
    "command_of",
    "completed",
    "declared",
    "digest_of_weights",
    "drawn_by",
    "exchanged",
    "generator_states",
    "generators_kept",
    "has_checksum",
    "has_contiguous_input",
    "in_evaluation",
    "is_placeless",
    "layers_at_every_width",
    "like",
    "load_card",
    "load_info",
    "load_model",
    "make_layer",
    "misfit",
    "modes_kept",
    "name_of_layer",
    "needs_of",
    "norm_layers",
    "not_finite",
    "other_layers",
    "other_parts",
    "outside_sites",
    "packed",
    "parse_network",
    "read_bundle",
    "save_model",
    "schedules_of",
    "seed_generators",
    "set_generator_states",
    "sites",
    "split_fused",
    "start_from",
    "takes_contiguous",
    "unpacked",
    "without_hooks",
]
