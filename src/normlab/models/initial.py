"""Trained weights that a network starts from: of a trained model's folder, or a file."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bounded import open_regular
from ..errors import InputError
from ..foreign import is_custom
from ..pages.words import listed, visible
from ..runs import AS_IS, MODEL, WEIGHTS
from ..seals import digest, digest_of
from .bundle import load_info, load_model
from .info import ModelInfo
from .networks import classifier_of
from .weights import WeightsFile

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Entries of a saved dictionary that have the state dict, as training scripts name them."""
_SHOWN = 5
_TENSORS = 100_000
_FAR = 0.02
"""A difference of means or standard deviations, on the scale from 0 to 1, that is worth saying."""


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
        classifier: path of a classifier that is replaced, because it is for other classes; "".
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
        share = 100.0 if self.share == 1 else min(math.floor(1000 * self.share) / 10, 99.9)
        besides = f" besides the classifier {self.classifier}" if self.classifier else ""
        said = [f"{share:g} % of the parameters{besides} start from {self.source}."]
        if self.classifier:
            said.append("The classifier starts anew, since it is for other classes there.")
        for names, what in (
            (self.missing, "Missing from the file, or of another shape, so they start anew"),
            (self.left_over, "In the file, but not in the network"),
        ):
            if names:
                said.append(f"{what}: {_some(names)}.")
        if any(name.endswith(("running_mean", "running_var")) for name in self.missing):
            said.append(
                "Layers without their running statistics compute something else in evaluation. "
                "normlab recalibrate takes them from images."
            )
        return (*said, *self.notes)


def digest_of_weights(weights: str | Path) -> str:
    """SHA-256 of the file that has the weights; of those of a model's folder together with what
    it says that they mean.

    Raises:
        InputError: there is none.
    """
    path = Path(weights)
    folder = _folder_of(path)
    file = path if folder is None else folder / WEIGHTS
    open_regular(file).close()
    found = digest_of(file)
    if folder is None:
        return found
    info = load_info(folder)
    meaning = [info.model, info.norm, info.n, info.shortcut, info.in_channels, *info.classes]
    return digest("\0".join(map(str, [found, *meaning])).encode())


def _folder_of(path: Path) -> Path | None:
    """The folder of the trained model that is named by itself or by its file of weights."""
    folder = path.parent if path.name == WEIGHTS else path
    return folder if (folder / MODEL).exists() else None


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
    other_classes = False
    folder = _folder_of(path)
    if folder is not None:
        known = load_info(folder)
        _check_same_network(known, info, folder)
        if is_custom(known.norm) and known.norm != info.norm:
            raise InputError(
                f"The model in {folder} has the layer {known.norm:.200}, which is not part of "
                "normlab and which you did not name. Convert the model first: normlab convert "
                "--trust."
            )
        # The network is the one that a person named, and so is a layer that is not ours.
        state = load_model(folder, trust=True).state_dict()
        other_classes = known.classes != info.classes
        notes = tuple(_differences(known, info))
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
    loaded = _load(model, state, len(info.classes), str(weights), notes, other_classes)
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


def _differences(known: ModelInfo, info: ModelInfo) -> Iterator[str]:
    """In what images of the model and of the data enter otherwise."""
    far = max(
        abs(one - two)
        for name in ("mean", "std")
        for one, two in zip(getattr(known, name), getattr(info, name), strict=True)
    )
    if far > _FAR:
        yield (
            "Pixels were normalized otherwise for these weights: by the mean "
            f"{_numbers(known.mean)} and the standard deviation {_numbers(known.std)}, here by "
            f"{_numbers(info.mean)} and {_numbers(info.std)}."
        )
    for name, what in (("image_size", "images of side"), ("resize", "images resized by")):
        there, here = getattr(known, name), getattr(info, name)
        if there != here:
            yield f"The weights were trained on {what} {there}, and here it is {here}."


def _numbers(values: Iterable[float]) -> str:
    return listed(f"{value:.3f}" for value in values)


def _read(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A state dict from a file."""
    if path.is_dir():
        raise InputError(f"{path} does not contain a model (no {MODEL}). Give a file of weights.")
    open_regular(path).close()
    if path.suffix == ".safetensors":
        content: Any = WeightsFile.opened(path).read(None)
    else:
        _check_archive(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} cannot be read as weights. Files of torch.save are read as tensors alone, "
                "since anything else in them could run code. Save the network's state_dict()."
            ) from error
        except Exception as error:
            raise InputError(
                f"{path} cannot be read as weights: it is incomplete, damaged or no file of "
                "torch.save."
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
    return dict(content), notes


def _check_archive(path: Path) -> None:
    """What torch.save writes is not compressed. What is could grow beyond all bounds."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # of another form, which is read in any case or refused
    if packed:
        raise InputError(f"{path} is compressed, which files of torch.save are not.")
    if damaged is not None:
        raise InputError(f"{path} is damaged: {damaged} has another checksum. Copy it again.")


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
    model: nn.Module,
    state: Mapping[str, Any],
    classes: int,
    source: str,
    notes: tuple[str, ...],
    other_classes: bool,
) -> Loaded:
    own = model.state_dict()
    state, prefixed = _without_prefix(state, own)
    head = classifier_of(model, classes)
    fitting = {
        name: _cast(value, own[name])
        for name, value in state.items()
        if name in own and _shape(own[name]) == _shape(value)
    }
    missing = [name for name in own if name not in fitting]
    left_over = [name for name in state if name not in own]
    of_head = {f"{head}.weight", f"{head}.bias"} if head else set()
    there = state.get(f"{head}.weight") if head else None
    rows = (_shape(there) or ())[:1]
    replaced = bool(rows) and (other_classes or rows != (classes,))
    if replaced:
        fitting = {name: value for name, value in fitting.items() if name not in of_head}
        missing = [name for name in missing if name not in of_head]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    counted = {n: p.numel() for n, p in parameters.items() if not (replaced and n in of_head)}
    values = sum(counted.values())
    share = sum(size for name, size in counted.items() if name in fitting) / max(values, 1)
    whole = [n for n in fitting if own[n].is_floating_point() and not state[n].is_floating_point()]
    if whole:
        raise InputError(
            f"{source} has whole numbers, or none at all, where the network has others: "
            f"{_some(whole)}. Quantized weights cannot be trained."
        )
    _check_values(fitting, source)
    types = sorted(
        {
            str(state[n].dtype).removeprefix("torch.")
            for n in fitting
            if state[n].dtype != own[n].dtype
        }
    )
    if types:
        notes += (f"Some of its values are {listed(types)}, and became the network's type.",)
    model.load_state_dict({**own, **fitting})
    return Loaded(
        source,
        share,
        tuple(missing),
        tuple(left_over),
        head if replaced else "",
        (*prefixed, *notes),
    )


def _without_prefix(
    state: Mapping[str, Any], own: Mapping[str, Any]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The state without what stands before its names, if more of them fit then: modules around a
    network, such as those of DataParallel and torch.compile, put it there."""
    notes: tuple[str, ...] = ()
    found, most = state, len(state.keys() & own.keys())
    one = next(iter(own), "")
    for prefix in sorted({n.removesuffix(one) for n in state if n.endswith(f".{one}")}):
        shorter = {name.removeprefix(prefix): value for name, value in state.items()}
        if len(shorter) == len(state) and (fit := len(shorter.keys() & own.keys())) > most:
            said = f"Names in it begin with {prefix!r}, which is left out."
            found, notes, most = shorter, (said,), fit
    return found, notes


def _cast(value: Tensor, own: Tensor) -> Tensor:
    return value.detach().to("cpu", own.dtype)


def _check_values(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with which a network computes nothing."""
    strange = [n for n, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    negative = [n for n, v in tensors.items() if n.endswith("running_var") and bool((v < 0).any())]
    for names, what in ((strange, "values that are not finite"), (negative, "variances below 0")):
        if names:
            raise InputError(f"{source} has {what}: {_some(names)}.")


def _shape(value: Any) -> tuple[int, ...] | None:
    """None for what is no tensor with values of its own."""
    plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    return tuple(value.shape) if plain else None


def _some(names: Iterable[str]) -> str:
    known = [visible(name)[:100] for name in names]
    more = len(known) - _SHOWN
    return listed([*known[:_SHOWN], *([f"{more} more"] if more > 0 else [])])
