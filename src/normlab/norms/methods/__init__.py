"""One file per method: its layer, its parts for a network, and its spec."""

from ..spec import NormSpec
from . import (
    batch,
    batch_instance,
    batch_renorm,
    derf,
    dyt,
    extended_batch,
    fixup,
    frozen_batch,
    ghost_batch,
    group,
    instance,
    instance_enhanced,
    layer,
    none,
    scaled_ws,
    skipinit,
    sync_batch,
    weight_norm,
    weight_standardization,
)

SPECS: tuple[NormSpec, ...] = (
    batch.TORCH_BN,
    batch.SPEC,
    instance.SPEC,
    batch_instance.SPEC,
    layer.SPEC,
    group.SPEC,
    none.SPEC,
    sync_batch.SPEC,
    ghost_batch.SPEC,
    batch_renorm.SPEC,
    extended_batch.SPEC,
    frozen_batch.SPEC,
    instance_enhanced.SPEC,
    weight_norm.SPEC,
    weight_standardization.ALONE,
    weight_standardization.WITH_GROUPS,
    scaled_ws.SPEC,
    fixup.SPEC,
    skipinit.SPEC,
    dyt.SPEC,
    derf.SPEC,
)
"""The specs of all methods: first the seven of the experiment, then by family."""
