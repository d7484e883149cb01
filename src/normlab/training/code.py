"""The files that a run rests on besides its data and this package."""

from __future__ import annotations

from ..foreign import code_of, library_code
from ..models import digest_of_weights
from ..runs import RunConfig

_INITIAL = "initial weights"


def code_of_run(config: RunConfig) -> dict[str, str]:
    """File to SHA-256: :func:`own_code` and :func:`weights_of_run`.

    Raises:
        InputError: there are no such weights.
    """
    return {**own_code(config), **weights_of_run(config)}


def own_code(config: RunConfig) -> dict[str, str]:
    """The code of a layer and a network that are not ours, and the version of a library that has
    the network."""
    layer, factory = config.named
    return {**code_of(layer), **code_of(factory), **library_code(config.model)}


def weights_of_run(config: RunConfig) -> dict[str, str]:
    """The weights that the run starts from; empty where it starts from none.

    Raises:
        InputError: there are no such weights.
    """
    file = config.weights_file
    return {} if file is None else {_INITIAL: digest_of_weights(file)}
