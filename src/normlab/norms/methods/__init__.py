"""One file per method: its layer, its parts for a network, and its spec."""

from ..spec import NormSpec
from . import (
    batch,
    batch_instance,
    evonorm,
    filter_response,
    group,
    instance,
    layer,
    none,
    pixel_ln,
    position,
    rms,
    switchable,
)

SPECS: tuple[NormSpec, ...] = (
    batch.TORCH_BN,
    batch.SPEC,
    instance.SPEC,
    batch_instance.SPEC,
    layer.SPEC,
    group.SPEC,
    none.SPEC,
    rms.SPEC,
    pixel_ln.SPEC,
    position.SPEC,
    filter_response.SPEC,
    evonorm.S0,
    evonorm.B0,
    switchable.SPEC,
)
"""The specs of all methods: first the seven of the experiment, then by family."""
