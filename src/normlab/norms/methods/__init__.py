"""One file per method: its layer, its parts for a network, and its spec."""

from ..spec import NormSpec
from . import (
    batch,
    batch_instance,
    batch_renorm,
    derf,
    divisive,
    dyt,
    evonorm,
    extended_batch,
    filter_response,
    fixup,
    frozen_batch,
    ghost_batch,
    grn,
    group,
    ibn,
    instance,
    instance_enhanced,
    layer,
    lrn,
    none,
    pixel_ln,
    position,
    proxy,
    rms,
    scaled_ws,
    skipinit,
    switchable,
    sync_batch,
    weight_norm,
    weight_standardization,
)

SPECS: tuple[NormSpec, ...] = (
    # The seven of the experiment.
    batch.TORCH_BN,
    batch.SPEC,
    instance.SPEC,
    batch_instance.SPEC,
    layer.SPEC,
    group.SPEC,
    none.SPEC,
    # Statistics of the batch.
    sync_batch.SPEC,
    ghost_batch.SPEC,
    batch_renorm.SPEC,
    extended_batch.SPEC,
    frozen_batch.SPEC,
    evonorm.B0,
    # Of the batch and of each image.
    switchable.SPEC,
    ibn.A,
    ibn.B,
    instance_enhanced.SPEC,
    # Of each image.
    rms.SPEC,
    pixel_ln.SPEC,
    position.SPEC,
    filter_response.SPEC,
    evonorm.S0,
    proxy.SPEC,
    grn.SPEC,
    lrn.SPEC,
    divisive.SPEC,
    # Of the weights.
    weight_norm.SPEC,
    weight_standardization.ALONE,
    weight_standardization.WITH_GROUPS,
    scaled_ws.SPEC,
    # Without normalization.
    fixup.SPEC,
    skipinit.SPEC,
    dyt.SPEC,
    derf.SPEC,
)
"""The specs of all methods, in the order of the pages."""
