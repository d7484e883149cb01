"""Trained weights that a network starts from: of a trained model's folder, or a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bounded import open_regular
from ..errors import InputError, told
from ..foreign import is_custom
from ..pages.words import listed, visible
from ..runs import AS_IS, MODEL, WEIGHTS
from ..seals import digest_of
from .bundle import load_info, load_model
from .info import ModelInfo
from .networks import classifier_of
from .weights import WeightsFile

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Entries of a saved dictionary that have the state dict, as training scripts name them."""
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
_SHOWN = 5
_TENSORS = 1_000_000


@dataclass(frozen=True)
class Loaded:
    """What a start from trained weights loaded.

    Attributes:
        source: the folder or file, as it was named.
        share: of the network's parameters, by number of values; without a classifier that is
            replaced.
        missing: parameters and buffers of the network that are not in the file, or have another
            shape there.
        left_over: tensors of the file that the network does not have.
        classifier: path of a classifier that is replaced, because it is of another size there; "".
        notes: other things to know, as sentences.
    """

    source: str
    share: float
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    classifier: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person should know, the first about how much was loaded."""
        said = [f"{100 * self.share:.4g} % of the parameters start from {self.source}."]
        if self.classifier:
            said.append(
                f"The classifier {self.classifier} starts anew: it is of another size there."
            )
        for names, what in (
            (self.missing, "Not there, or of another shape, so new"),
            (self.left_over, "There, but not in the network"),
        ):
            if names:
                said.append(f"{what}: {_some(names)}.")
        return (*said, *self.notes)


def digest_of_weights(weights: str | Path) -> str:
    """SHA-256 of the file that has the weights.

    Raises:
        InputError: there is none.
    """
    path = Path(weights)
    file = path / WEIGHTS if path.is_dir() else path
    open_regular(file).close()
    return digest_of(file)


def start_from(
    weights: str | Path, info: ModelInfo, least: float, seed: int
) -> tuple[nn.Module, str, Loaded]:
    """A network with trained weights, in the normalization that they were trained with.

    Args:
        weights: the folder of a trained model; a file of safetensors; or one that ``torch.save``
            wrote, which is read as tensors alone. A state dict may be within a dictionary, and its
            names may begin with ``module.``, as DataParallel has them.
        info: of the network that starts, for its own classes.
        least: the smallest share of parameters to load.
        seed: determines what is not loaded.

    Returns:
        The network, its normalization (:data:`normlab.runs.AS_IS` for that of a factory), and what
        was loaded.

    Raises:
        InputError: no weights there, weights of another network, or too few of them.
    """
    path = Path(weights)
    notes: tuple[str, ...] = ()
    folder = path if path.is_dir() else path.parent if path.name == WEIGHTS else None
    if folder is not None and (folder / MODEL).exists():
        known = load_info(folder)
        _check_same_network(known, info, folder)
        # The network is the one that a person named. Nobody named the layer.
        source = load_model(folder, trust=not is_custom(known.norm))
        state = source.state_dict()
        as_is = replace(info, norm=known.norm, n=known.n, shortcut=known.shortcut)
    elif info.ours:
        raise InputError(
            f"{path} does not say which normalization its weights were trained with. Give the "
            f"folder of a trained model, with {MODEL} and {WEIGHTS}."
        )
    else:
        state, notes = _read(path)
        as_is = replace(info, norm=AS_IS)
    model = as_is.build(seed)
    loaded = _load(model, state, len(info.classes), str(weights), notes)
    if loaded.share < least:
        raise InputError(
            f"{' '.join(loaded.sentences)} At least {100 * least:.4g} % are asked for, which "
            "--weights-least changes."
        )
    return model, as_is.norm, loaded


def _check_same_network(known: ModelInfo, info: ModelInfo, folder: Path) -> None:
    for name, there, here in (
        ("model", known.model, info.model),
        ("n", known.n, info.n),
        ("shortcut", known.shortcut, info.shortcut),
    ):
        if there != here:
            raise InputError(
                f"The model in {folder} has {name} {there}, and the run {here}. Give --{name} "
                f"{there}."
            )
    if known.in_channels != info.in_channels:
        raise InputError(
            f"The model in {folder} takes images of {known.in_channels} channels, and the data "
            f"have {info.in_channels}."
        )


def _read(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A state dict from a file."""
    if path.is_dir():
        raise InputError(f"{path} does not contain a model (no {MODEL}). Give a file of weights.")
    open_regular(path).close()
    if path.suffix == ".safetensors":
        content: Any = WeightsFile.opened(path).read(None)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                f"{path} cannot be read as weights: {told(error)}. Files of torch.save are read as "
                "tensors alone, since anything else in them could run code. Save the network's "
                "state_dict()."
            ) from error
    notes: tuple[str, ...] = ()
    if not _is_state(content) and isinstance(content, Mapping):
        inside = [name for name in _WRAPPERS if _is_state(content.get(name))]
        if inside:
            content, notes = content[inside[0]], (f"The weights are its entry {inside[0]!r}.",)
    if not _is_state(content):
        raise InputError(
            f"{path} has no state dict: names and tensors, alone or in an entry such as "
            f"{' or '.join(map(repr, _WRAPPERS[:3]))}."
        )
    state = dict(content)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            notes += (f"Names in it begin with {prefix!r}, which is left out.",)
    return state, notes


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and 0 < len(content) <= _TENSORS
        and all(isinstance(name, str) for name in content)
        and any(isinstance(value, Tensor) for value in content.values())
        and not any(isinstance(value, Mapping) for value in content.values())
    )


@torch.no_grad()
def _load(
    model: nn.Module, state: Mapping[str, Any], classes: int, source: str, notes: tuple[str, ...]
) -> Loaded:
    own = model.state_dict()
    head = classifier_of(model, classes)
    fitting = {
        name: value
        for name, value in state.items()
        if name in own and isinstance(value, Tensor) and _shape(own[name]) == _shape(value)
    }
    missing = [name for name in own if name not in fitting]
    left_over = [name for name in state if name not in own]
    of_head = {f"{head}.weight", f"{head}.bias"} if head else set()
    # A classifier that is there, for another number of classes.
    replaced = bool(of_head & set(missing)) and f"{head}.weight" in state
    if replaced:
        fitting = {name: value for name, value in fitting.items() if name not in of_head}
        missing = [name for name in missing if name not in of_head]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    counted = {n: p.numel() for n, p in parameters.items() if not (replaced and n in of_head)}
    values = sum(counted.values())
    share = sum(size for name, size in counted.items() if name in fitting) / max(values, 1)
    strange = [n for n, v in fitting.items() if v.is_floating_point() and not v.isfinite().all()]
    if strange:
        raise InputError(f"{source} has values that are not finite: {_some(strange)}.")
    model.load_state_dict({**own, **fitting})
    return Loaded(
        source,
        share,
        tuple(missing),
        tuple(left_over),
        head if replaced else "",
        notes,
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _some(names: Iterable[str]) -> str:
    known = [visible(name)[:100] for name in names]
    more = len(known) - _SHOWN
    return listed([*known[:_SHOWN], *([f"{more} more"] if more > 0 else [])])
