"""The files that a run rests on besides its data and this package."""

from __future__ import annotations

from ..foreign import code_of
from ..models import digest_of_weights
from ..runs import RunConfig

_INITIAL = "initial weights"


def code_of_run(config: RunConfig) -> dict[str, str]:
    """File to SHA-256: the code of a layer and a network that are not ours, and the weights that
    the run starts from.

    Raises:
        InputError: there are no such weights.
    """
    found: dict[str, str] = {}
    for name in config.named:
        found |= code_of(name)
    return {**found, **weights_of_run(config)}


def weights_of_run(config: RunConfig) -> dict[str, str]:
    """The part of this that is about the weights; empty where the run starts from none.

    Raises:
        InputError: there are no such weights.
    """
    file = config.weights_file
    return {} if file is None else {_INITIAL: digest_of_weights(file)}
