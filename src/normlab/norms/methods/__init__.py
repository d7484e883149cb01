"""One file per method: its layer, its parts for a network, and its spec."""

from ..spec import NormSpec
from . import batch, batch_instance, divisive, grn, group, ibn, instance, layer, lrn, none, proxy

SPECS: tuple[NormSpec, ...] = (
    batch.TORCH_BN,
    batch.SPEC,
    instance.SPEC,
    batch_instance.SPEC,
    layer.SPEC,
    group.SPEC,
    none.SPEC,
    grn.SPEC,
    lrn.SPEC,
    divisive.SPEC,
    proxy.SPEC,
    ibn.A,
    ibn.B,
)
"""The specs of all methods: first the seven of the experiment, then by family."""
