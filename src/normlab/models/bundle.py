"""A trained model on disk: ``model.json`` and ``weights.safetensors``, no code and no pickle.

Only these two files are read, whatever else is in the folder. ``model.json`` is sealed and lists
the SHA-256 of the weights. Of the network of this package nothing is allocated before the sizes
that both state are known to agree. If the model's layer or its network is not of this package, the
code is elsewhere, and is imported only when a person says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ..bounded import JSON_BYTES, read_file
from ..errors import InputError, told
from ..files import read_json, write_bytes, write_json
from ..foreign import (
    check_trusted,
    code_of,
    is_custom,
    named_in_a_file,
    not_found,
)
from ..pages.words import visible
from ..runs import COMPLETE, INTERRUPTED, MODEL, WEIGHTS, is_run, is_study, read_record
from ..runs.integrity import check_listed
from ..seals import digest, is_sealed
from .card import checked_card
from .custom import takes_contiguous
from .info import ModelInfo, checked_info
from .resnet import ResNet
from .shapes import Kind, Part, state_parts
from .state import EXTRA, packed, unpacked
from .weights import ADVICE, NotWeightsError, WeightsFile

FORMAT = "normlab model 1"
FILES = "files"
"""The field of model.json that lists SHA-256 of the weights."""

_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"})
_CODE = frozenset({".py", ".so", ".pyd"})
_GIVE_A_RUN = "Give STUDY/runs/ARM/seed-K."
_SHOWN = 3
_WRONG = 1000
"""Entries that do not fit, after which no more are counted."""
_HASHED = 1 << 30
"""Bytes of weights that do not fit which are worth a look at their checksum."""


@dataclass(frozen=True)
class Described:
    """What ``model.json`` says, checked.

    Attributes:
        info: the network.
        card: what else to know.
        weights: SHA-256 of the weights; None where an earlier version wrote the bundle.
    """

    info: ModelInfo
    card: Mapping[str, Any]
    weights: str | None


def save_model(
    folder: Path,
    info: ModelInfo,
    weights: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write the bundle, ``model.json`` last. Equal weights give equal bytes.

    Args:
        folder: created if it does not exist.
        info: the architecture, and how pixels are normalized.
        weights: the model's state dict, packed or not; extra state must be tensors or JSON.
        card: what else to know about the model, for :func:`load_card`; plain JSON values.

    Raises:
        InputError: a card that is not plain JSON, or a folder that cannot be written.
    """
    described: dict[str, Any] = {"format": FORMAT, **asdict(info)}
    if card is not None:
        try:
            json.dumps(dict(card), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"A model's card must be plain JSON values: {error}.") from error
        described["card"] = checked_card(card, folder / MODEL)
    plain = {name: tensor.cpu().contiguous() for name, tensor in sorted(packed(weights).items())}
    content = safetensors.torch.save(plain)
    write_bytes(folder / WEIGHTS, content)
    write_json(folder / MODEL, {**described, FILES: {WEIGHTS: digest(content)}})


def load_info(folder: str | Path) -> ModelInfo:
    """Read what ``model.json`` says about the architecture.

    Raises:
        InputError: no bundle there, one of another format, a damaged one, or impossible values.
    """
    return _described(folder).info


def load_card(folder: str | Path) -> dict[str, Any]:
    """The card that was saved with the model; empty if there was none.

    Raises:
        InputError: no bundle there, one of another format, a damaged one, or a card whose entries
            are not what they must be.
    """
    return dict(_described(folder).card)


def has_checksum(folder: str | Path) -> bool:
    """Whether damage to the bundle would be found. One of an earlier version has no checksums.

    Raises:
        InputError: no bundle there.
    """
    path = Path(folder) / MODEL
    return _described(folder).weights is not None and is_sealed(read_file(path, JSON_BYTES))


def load_model(run: str | Path, *, trust: bool = False) -> nn.Module:
    """The trained model of a run, in evaluation mode on the CPU.

    Nothing in the bundle is executed: ``model.json`` is JSON and the weights are safetensors.
    Pickles are refused without being opened. If the layer or the network is your own, the bundle
    names the module that has it, and importing that runs code. This is done only with ``trust``,
    also where your process has imported the module already. Networks of timm and torchvision are
    made by these packages where they are installed, without being asked for trained weights.

    >>> import tempfile
    >>> info = ModelInfo(1, ("cat", "dog"), "gn", "A", 3, 32, (0.5,) * 3, (0.2,) * 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Path(folder), info, info.build(seed=0).state_dict())
    ...     model = load_model(folder)
    >>> model(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 2])

    Args:
        run: the run's folder, with ``model.json`` and ``weights.safetensors``.
        trust: import the module of a layer or a network that is not part of normlab. It is
            searched for on Python's path, and in the working folder only if it was there when the
            model was trained, if PYTHONPATH names that folder, or if this process has imported the
            module from there.

    Returns:
        A :class:`ResNet`, or the network of your own or of a library with the arm's layers in it.

    Raises:
        InputError: no run there, one without a model (the error names its status), a pickle, a
            damaged file, impossible values, weights that do not fit the model (the error names
            which) or are not finite, a layer or a network that is not part of normlab without
            ``trust`` (the error names the file that would be imported), or one whose code has
            changed since.
    """
    folder = Path(run)
    _check_folder(folder)
    model = read_bundle(folder, trust=trust)
    return model if isinstance(model, ResNet) else takes_contiguous(model)


def check_model_trusted(run: str | Path, trust: bool) -> None:
    """Refuse a model whose layer or network is not part of normlab, unless it is trusted. Nothing
    is imported.

    Raises:
        InputError: as :func:`load_model`.
    """
    folder = Path(run)
    described = _described(folder)
    with _code_of(described):
        _check_trusted(described, folder, trust)


@contextmanager
def code_of_model(run: str | Path) -> Iterator[None]:
    """Within this, the model's layer and its network are found where :func:`load_model` found
    them: for whoever makes them again.

    Raises:
        InputError: no bundle there, or a damaged one.
    """
    with _code_of(_described(run)):
        yield


def read_bundle(folder: Path, *, trust: bool = False, finite: bool = True) -> nn.Module:
    """As :func:`load_model`, also of a run that has not ended yet; without ``finite``, weights may
    be anything."""
    described = _read(folder)
    with _code_of(described):
        _check_trusted(described, folder, trust)
        _check_code(described, folder)
        return _built(described, folder, finite)


def _built(described: Described, folder: Path, finite: bool) -> nn.Module:
    """The network with its weights. Sizes are compared before anything is made of them."""
    info, path = described.info, folder / WEIGHTS
    file = _opened(path)
    if info.ours:
        _check_blocks(file.kinds, info, folder)
    try:
        parts = list(_fitting(file, described, folder))
        model = info.build(seed=0)
    except InputError:
        raise
    except ValueError as error:
        if is_custom(info.norm) and isinstance(error.__cause__, ImportError):
            raise InputError(_not_imported(info.norm, error.__cause__, folder)) from error
        said = str(error).rstrip(".")
        raise InputError(f"{folder / MODEL} describes an impossible model: {said:.300}.") from error
    tensors = file.read(described.weights)
    if finite:
        _check_values(tensors, parts, info.norm, path)
    state = _unpacked(tensors, folder)
    _check_fit(state, model.state_dict(), folder)
    try:
        model.load_state_dict(state)
    except Exception as error:  # set_extra_state of a layer of one's own may do anything
        raise InputError(
            f"{folder / WEIGHTS} cannot be loaded into {info.norm}: {told(error)}."
        ) from error
    return model.eval()


def _check_trusted(described: Described, folder: Path, trust: bool) -> None:
    check_trusted(described.info.norm, trust, f"The model in {folder} has")
    check_trusted(described.info.factory, trust, f"The model in {folder} is", "network")


@contextmanager
def _code_of(described: Described) -> Iterator[None]:
    info, card = described.info, described.card
    origins = {info.norm: "origin", info.factory: "network_origin"}
    with named_in_a_file({name: str(card.get(entry, "")) for name, entry in origins.items()}):
        yield


def not_finite(model: nn.Module) -> str:
    """A sentence that names weights and buffers with values that are not finite, or nothing."""
    found = [
        name
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, torch.Tensor)
        and tensor.is_floating_point()
        and not bool(tensor.isfinite().all())
    ]
    return f"Not finite in the model: {_names(found)}." if found else ""


def _not_imported(norm: str, error: ImportError, folder: Path) -> str:
    """That nothing is known against the model, and what to do about its layer."""
    module = norm.partition(":")[0]
    said = f"{module}, which has the layer of {folder}, cannot be imported here: {told(error)}."
    if error.name and f"{module}.".startswith(f"{error.name}."):
        said += not_found(module)
    return said


def _check_code(described: Described, folder: Path) -> None:
    """Weights mean what they did only with the code of layer and network as it was. Versions of
    installed packages may differ, as that of torch may."""
    known = described.card.get("code")
    if not known:
        return
    named = [name for name in (described.info.norm, described.info.factory) if is_custom(name)]
    codes = {name: code_of(name) for name in named}
    now = {file: digest for code in codes.values() for file, digest in code.items()}
    changed = sorted(
        name
        for name in {*known, *now}
        if Path(name).suffix in _CODE and known.get(name) != now.get(name)
    )
    if changed and all(codes.values()):
        raise InputError(
            f"The code of {' or '.join(named)} has changed since the model in {folder} was trained "
            f"({_names(changed)}), so it would compute something else. Restore the code as it was, "
            "or train the model again."
        )


def _unpacked(weights: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    try:
        return unpacked(weights)
    except ValueError as error:
        raise InputError(f"{folder / WEIGHTS} is damaged ({error}). Copy it again.") from error


def _described(folder: str | Path) -> Described:
    """Of a folder that has a complete model."""
    _check_folder(Path(folder))
    return _read(Path(folder))


def _read(folder: Path) -> Described:
    path = folder / MODEL
    content = read_json(path, ADVICE)
    if content.pop("format", None) != FORMAT:
        raise InputError(f"{path} does not have the format {FORMAT!r}.")
    files, card = content.pop(FILES, {}), content.pop("card", {})
    known = files.get(WEIGHTS) if isinstance(files, dict) else files
    if known is not None and not (isinstance(known, str) and re.fullmatch("[0-9a-f]{64}", known)):
        raise InputError(f"{path}: {FILES} must have the SHA-256 of {WEIGHTS}, got {known!r:.60}.")
    if known is None and is_sealed(read_file(path, JSON_BYTES)):
        # Whoever seals a model also lists its weights.
        raise InputError(f"{path} does not have the SHA-256 of {WEIGHTS}. {ADVICE}")
    return Described(checked_info(content, path), checked_card(card, path), known)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that does not claim to contain a complete model, saying what it is."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist. {_GIVE_A_RUN}")
    if not folder.is_dir():
        if folder.is_file() and _is_pickle(folder):
            raise _refused_pickle(folder)
        if folder.name in (MODEL, WEIGHTS):
            raise InputError(f"{folder} is one file of a model. Give its folder, {folder.parent}.")
        raise InputError(f"{folder} is a file, not the folder of a run. {_GIVE_A_RUN}")
    if is_study(folder) and not (folder / MODEL).exists():
        found = sorted(path.parent for path in folder.glob(f"runs/*/*/{MODEL}"))
        some = ", ".join(str(path) for path in found[:_SHOWN]) + (
            f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        )
        advice = f"Give one of its runs: {some}" if found else "None of its runs is complete yet"
        raise InputError(f"{folder} is a study, not a run. {advice}.")
    record = read_record(folder) if is_run(folder) else {"status": COMPLETE}
    status = str(record["status"])
    if status != COMPLETE:
        again = " Resume it with the same command." if status == INTERRUPTED else ""
        raise InputError(f"The run in {folder} has no model: its status is {status!r}.{again}")
    if not (folder / MODEL).exists():
        pickles = sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and path.suffix.lower() in _PICKLES and _is_pickle(path)
        )
        if pickles:
            raise _refused_pickle(pickles[0])
        raise InputError(f"{folder} does not contain a model (no {MODEL}). {_GIVE_A_RUN}")
    check_listed(folder, record, MODEL)


def _is_pickle(path: Path) -> bool:
    """By its first bytes: a zip archive, as torch.save writes, or a pickle of protocol 2 to 5.
    By its name if they are inconclusive."""
    try:
        with path.open("rb") as opened:
            head = opened.read(9)
    except OSError:
        head = b""
    if head[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return False
    magic = head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5")
    return (magic and len(head) > 1) or path.suffix.lower() in _PICKLES


def _refused_pickle(path: Path) -> InputError:
    return InputError(
        f"{path} is a pickle, which can run code when opened. normlab only reads safetensors and "
        f"JSON. If you trust its source, load it with torch yourself. {_GIVE_A_RUN}"
    )


def _opened(path: Path) -> WeightsFile:
    if not path.exists():
        raise InputError(f"{path} does not exist, so there are no weights. Copy the whole folder.")
    try:
        return WeightsFile.opened(path)
    except NotWeightsError:
        if _is_pickle(path):
            raise _refused_pickle(path) from None
        raise


def _check_blocks(kinds: Mapping[str, Kind], info: ModelInfo, folder: Path) -> None:
    """Checked first: a wrong number would be a long list of what is missing."""
    blocks = {name.split(".")[2] for name in kinds if name.startswith("stages.0.")}
    first = kinds.get("conv.weight")
    channels = first.shape[1] if first is not None and len(first.shape) == 4 else None
    for name, said, held in (
        ("n", info.n, len(blocks)),
        ("in_channels", info.in_channels, channels),
    ):
        if said != held:
            raise InputError(
                f"{folder}: the weights do not fit {MODEL}, which says {name} = {said!r:.20}. "
                f"The weights have {'none' if held is None else held}."
            )


def _fitting(file: WeightsFile, described: Described, folder: Path) -> Iterator[Part]:
    """The parts of the network, each of which the file has, and nothing else.

    Raises:
        DamagedError: the file is not what was written.
        InputError: naming the parts that differ.
        ValueError: the layer cannot be made.
    """
    left, wrong, parts = set(file.kinds), [], []
    for part in state_parts(described.info):
        found = file.kinds.get(part.name)
        if found is None:
            wrong.append(f"{part.name} is missing")
        elif part.kind is not None and found != part.kind:
            wrong.append(f"{part.name} is {found}, but the model has {part.kind}")
        left.discard(part.name)
        parts.append(part)
        if len(wrong) > _WRONG:
            break
    else:
        wrong += [f"{name} is unknown to the model" for name in sorted(left)]
    if wrong:
        if file.size <= _HASHED:
            file.check_digest(described.weights)
        raise _misfit(wrong, folder)
    yield from parts


def _check_fit(weights: Mapping[str, Any], expected: Mapping[str, Any], folder: Path) -> None:
    """What was found by making single layers must hold for the network that was made of them."""
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    wrong += [f"{name} is unknown to the model" for name in sorted(weights) if name not in expected]
    for name, wanted in expected.items():
        found = weights.get(name)
        if found is None or name.rpartition(".")[2] == EXTRA:
            continue  # extra state has any shape
        if Kind.of(found) != Kind.of(wanted):
            wrong.append(f"{name} is {Kind.of(found)}, but the model has {Kind.of(wanted)}")
    if wrong:
        raise _misfit(wrong, folder)


def _misfit(wrong: list[str], folder: Path) -> InputError:
    said = "; ".join(visible(one)[:100] for one in wrong[:_SHOWN])
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return InputError(f"{folder}: the weights do not fit {MODEL}: {said}{more}.")


def _check_values(
    tensors: Mapping[str, torch.Tensor], parts: list[Part], norm: str, path: Path
) -> None:
    """Refuse weights with which the network computes nothing. What a layer of one's own keeps is
    its own affair."""
    checked = [part.name for part in parts if not (part.of_layer and is_custom(norm))]
    strange = [
        name
        for name in checked
        if tensors[name].is_floating_point() and not bool(tensors[name].isfinite().all())
    ]
    negative = [
        name for name in checked if name.endswith("running_var") and bool((tensors[name] < 0).any())
    ]
    for found, what in ((strange, "Not finite"), (negative, "Variances below 0")):
        if found:
            raise InputError(
                f"{path} is no model that could answer. {what} in the model: {_names(found)}. "
                "Repeat the run."
            )


def _names(found: list[str]) -> str:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{', '.join(visible(name)[:100] for name in found[:_SHOWN])}{more}"
