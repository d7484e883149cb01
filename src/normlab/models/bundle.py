"""A trained model on disk: ``model.json`` and ``weights.safetensors``, no code and no pickle.

Only these two files are read, whatever else is in the folder. They may come from a stranger: sizes
are compared before anything is allocated, and a layer that is not of this package is imported only
if a person trusts it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch

from ..bounded import JSON_BYTES, open_regular, read_file
from ..errors import InputError, did_you_mean, told
from ..files import read_json, write_bytes, write_json
from ..foreign import code_of, is_custom, is_foreign, require_trust
from ..norms import CATALOG, parse_norm
from ..runs import COMPLETE, INTERRUPTED, MODEL, WEIGHTS, is_run, is_study, read_record
from ..runs.integrity import check_listed
from ..seals import digest, is_sealed
from .resnet import ResNet, Shortcut
from .state import EXTRA, packed, unpacked
from .weights import Stored, open_weights, values_of

FORMAT = "normlab model 1"
IMAGE_SIZES = (8, 1024)
"""The smallest and largest side of images: what the network accepts, and what `data` makes."""

_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"})
_CODE = frozenset({".py", ".so", ".pyd"})
_GIVE_A_RUN = "Give STUDY/runs/ARM/seed-K."
_GET_ANOTHER = "Copy it again, or repeat the run."
_SHOWN = 3
_DEEPEST = 10_000
_NUMBERS = 1e9
"""No size, mean or range of a model is larger."""
_SMALLEST_STD = 1e-9
_MOST_CHANNELS = 1024
_AT_MOST_MISSING = 8 << 20
_HASH = "weights_sha256"


Resize = Literal["crop", "letterbox"]


@dataclass(frozen=True)
class ModelInfo:
    """Everything needed to rebuild a model and prepare an image for it, except the weights.

    Attributes:
        n, classes, norm, shortcut, in_channels: arguments of :class:`ResNet`, ``classes`` as
            names in the order of the logits.
        image_size: side in pixels of the images it was trained on.
        mean, std: per channel on the scale 0 to 1; a pixel enters as (value / 255 - mean) / std.
        resize: how an image becomes a square, ``crop`` or ``letterbox``.
        grey_range: black and white of files whose grey values are whole numbers of more than 8
            bits; None if the model was trained on none.
        float_range: likewise of floating-point grey values.
    """

    n: int
    classes: tuple[str, ...]
    norm: str
    shortcut: Shortcut
    in_channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    # Models of before there was a choice: the defaults are what they were trained with.
    resize: Resize = "crop"
    grey_range: tuple[float, float] | None = (0, 65535)
    float_range: tuple[float, float] | None = None

    def build(self, seed: int | None = None) -> ResNet:
        """A network of this architecture with fresh weights."""
        return ResNet(
            self.n, len(self.classes), self.norm, self.shortcut, self.in_channels, seed=seed
        )


_DEFAULTS = {f.name: f.default for f in fields(ModelInfo) if f.default is not MISSING}


def save_model(
    folder: Path,
    info: ModelInfo,
    weights: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write the bundle, ``model.json`` last; it has the SHA-256 of the weights. Equal weights give
    equal bytes.

    Args:
        folder: created if it does not exist.
        info: the architecture, and how pixels are normalized.
        weights: the model's state dict, packed or not; extra state must be tensors or JSON.
        card: what else to know about the model, for :func:`load_card`; plain JSON values.

    Raises:
        InputError: a card that is not plain JSON, or a folder that cannot be written.
    """
    plain = {name: tensor.cpu().contiguous() for name, tensor in sorted(packed(weights).items())}
    content = safetensors.torch.save(plain)
    described: dict[str, Any] = {"format": FORMAT, **asdict(info), _HASH: digest(content)}
    if card is not None:
        try:
            json.dumps(dict(card), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"A model's card must be plain JSON values: {error}.") from error
        described["card"] = dict(card)
    write_bytes(folder / WEIGHTS, content)
    write_json(folder / MODEL, described)


def load_info(folder: str | Path) -> ModelInfo:
    """Read what ``model.json`` says about the architecture.

    Raises:
        InputError: no bundle there, one of another format, or impossible values.
    """
    folder = Path(folder)
    _check_folder(folder)
    return _read_info(folder)


def load_card(folder: str | Path) -> dict[str, Any]:
    """The card that was saved with the model; empty if there was none.

    Raises:
        InputError: no bundle there, one of another format, or a card that is not a JSON object.
    """
    folder = Path(folder)
    _check_folder(folder)
    card = _described(folder).get("card", {})
    if not isinstance(card, dict):
        raise InputError(f"{folder / MODEL}: card must be a JSON object, got {card!r:.60}.")
    return card


def load_model(run: str | Path, *, trust: bool = False) -> ResNet:
    """The trained model of a run, in evaluation mode on the CPU.

    Nothing in the bundle is executed: ``model.json`` is JSON and the weights are safetensors.
    Pickles are refused without being opened.

    >>> import tempfile
    >>> info = ModelInfo(1, ("cat", "dog"), "gn", "A", 3, 32, (0.5,) * 3, (0.2,) * 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Path(folder), info, info.build(seed=0).state_dict())
    ...     model = load_model(folder)
    >>> model(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 2])

    Args:
        run: the run's folder, with ``model.json`` and ``weights.safetensors``.
        trust: whether a layer that is not of this package may be imported, which runs its code. It
            is looked for where Python looks for modules, but in the working folder only if the
            model says that it came from there.

    Raises:
        InputError: no run there, one without a model (the error names its status), a pickle,
            impossible values, weights that do not fit the model (the error names which) or are not
            finite, files that are damaged, a layer that is not trusted, or one whose code has
            changed since.
    """
    folder = Path(run)
    _check_folder(folder)
    return read_bundle(folder, trust=trust)


def read_bundle(folder: Path, *, trust: bool) -> ResNet:
    """As :func:`load_model`, also of a run that has not ended yet."""
    described = _described(folder)
    info = _checked(described, folder / MODEL)
    _check_layer(info.norm, described.get("card"), folder, trust=trust)
    _check_code(info.norm, described.get("card"), folder)
    if _is_pickle(folder / WEIGHTS):
        raise _refused_pickle(folder / WEIGHTS)
    stored = open_weights(folder / WEIGHTS, described.get(_HASH))
    _check_sizes(stored, info, folder)
    weights = stored.tensors()
    try:
        model = info.build(seed=0)
    except ValueError as error:
        if is_custom(info.norm) and isinstance(error.__cause__, ImportError):
            raise InputError(_not_imported(info.norm, error.__cause__, folder)) from error
        said = str(error).rstrip(".")
        raise InputError(f"{folder / MODEL} describes an impossible model: {said}.") from error
    state = _unpacked(weights, folder)
    _check_fit(state, model.state_dict(), folder)
    _check_values(state, folder)
    try:
        model.load_state_dict(state)
    except Exception as error:  # set_extra_state of a layer of one's own may do anything
        raise InputError(
            f"{folder / WEIGHTS} cannot be loaded into {info.norm}: {told(error)}."
        ) from error
    return model.eval()


def has_checksums(folder: Path) -> bool:
    """Whether a model's two files can be compared with what was written."""
    return _HASH in _described(folder) and is_sealed(read_file(folder / MODEL, JSON_BYTES))


def not_finite(model: torch.nn.Module) -> str:
    """A sentence that names weights and buffers with values that are not finite, or nothing."""
    return _not_finite(model.state_dict())


def _not_finite(state: Mapping[str, Any]) -> str:
    found = [
        name
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
        and tensor.is_floating_point()
        and not bool(tensor.isfinite().all())
    ]
    if not found:
        return ""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"Not finite in the model: {', '.join(found[:_SHOWN])}{more}."


def _check_values(state: Mapping[str, Any], folder: Path) -> None:
    """A model whose answers would mean nothing is refused."""
    said = _not_finite(state)
    negative = [
        name
        for name, tensor in state.items()
        if name.endswith("running_var") and bool((tensor < 0).any())
    ]
    if negative:
        said = f"{said} Negative variance: {', '.join(negative[:_SHOWN])}.".lstrip()
    if said:
        raise InputError(f"{folder / WEIGHTS} has impossible values. {said} {_GET_ANOTHER}")


def _check_layer(norm: str, card: Any, folder: Path, *, trust: bool) -> None:
    """A name from a file imports nothing but the layers of the catalogue, unless it is trusted."""
    try:
        name = parse_norm(norm).name
    except ValueError as error:
        raise InputError(f"{folder / MODEL} describes an impossible model: {error}") from error
    if is_foreign(name) and not is_custom(name):
        ours = {f"{s.layer.__module__}:{s.layer.__qualname__}" for s in CATALOG.values()}
        if name not in ours:
            raise InputError(f"{folder / MODEL}: {name!r:.80} is not a layer of normlab.")
    origin = card.get("origin", "") if isinstance(card, dict) else ""
    origin = origin if isinstance(origin, str) else ""
    require_trust(norm, folder / MODEL, trust=trust, origin=origin)


def _not_imported(norm: str, error: ImportError, folder: Path) -> str:
    """That nothing is known against the model, and what to do about its layer."""
    module = norm.partition(":")[0]
    said = f"{module}, which has the layer of {folder}, cannot be imported here: {told(error)}."
    if error.name and f"{module}.".startswith(f"{error.name}."):
        said += f" Run where {module} can be imported, or set PYTHONPATH to the folder it is in."
    return said


def _check_code(norm: str, card: Any, folder: Path) -> None:
    """Weights mean what they did only with the code of their layer as it was. Versions of installed
    packages may differ, as that of torch may."""
    known = card.get("code") if isinstance(card, dict) else None
    if not isinstance(known, dict) or not known:
        return
    now = code_of(norm)
    changed = sorted(
        name
        for name in {*known, *now}
        if Path(name).suffix in _CODE and known.get(name) != now.get(name)
    )
    if now and changed:
        raise InputError(
            f"The code of {norm} has changed since the model in {folder} was trained "
            f"({', '.join(changed[:_SHOWN])}), so it would compute something else. Restore the "
            "code as it was, or train the model again."
        )


def _unpacked(weights: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    try:
        return unpacked(weights)
    except ValueError as error:
        raise InputError(f"{folder / WEIGHTS} is damaged ({error}). Copy it again.") from error


def _read_info(folder: Path) -> ModelInfo:
    return _checked(_described(folder), folder / MODEL)


def _described(folder: Path) -> dict[str, Any]:
    """The content of model.json, without the format, not checked any further."""
    path = folder / MODEL
    content = read_json(path, _GET_ANOTHER)
    if content.pop("format", None) != FORMAT:
        raise InputError(f"{path} does not have the format {FORMAT!r}.")
    return content


def _check_folder(folder: Path) -> None:
    """Refuse a folder that does not claim to contain a complete model, saying what it is."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist. {_GIVE_A_RUN}")
    if folder.is_file():
        if _is_pickle(folder):
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
        with open_regular(path) as opened:
            head = opened.read(9)
    except (InputError, OSError):
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


def _checked(content: dict[str, Any], path: Path) -> ModelInfo:
    """The info, once its values are known to have the right types and to be possible."""
    known = [field.name for field in fields(ModelInfo)]
    content = {name: value for name, value in content.items() if name != "card"}
    hashed = content.pop(_HASH, None)
    if hashed is not None and not (
        isinstance(hashed, str) and re.fullmatch("[0-9a-f]{64}", hashed)
    ):
        raise InputError(f"{path}: {_HASH} must be 64 hexadecimal digits, got {hashed!r:.80}.")
    for name in content:
        if name not in known:
            raise InputError(f"{path} has an unknown field {name!r}{did_you_mean(name, known)}.")
    content = {**_DEFAULTS, **content}
    missing = [name for name in known if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}.")

    def must(good: bool, name: str, be: str) -> None:
        if not good:
            raise InputError(f"{path}: {name} must be {be}, got {content[name]!r:.60}.")

    least, most = IMAGE_SIZES
    must(
        _whole(content["n"]) and 1 <= content["n"] <= _DEEPEST,
        "n",
        f"a whole number from 1 to {_DEEPEST:,}",
    )
    must(_texts(content["classes"]), "classes", "a list of at least two different names")
    must(isinstance(content["norm"], str) and len(content["norm"]) < 1000, "norm", "text")
    must(content["shortcut"] in ("A", "B"), "shortcut", "'A' or 'B'")
    channels, size = content["in_channels"], content["image_size"]
    must(
        _whole(channels) and 1 <= channels <= _MOST_CHANNELS,
        "in_channels",
        f"a whole number from 1 to {_MOST_CHANNELS:,}",
    )
    must(
        _whole(size) and least <= size <= most,
        "image_size",
        f"a whole number from {least} to {most}",
    )
    must(_numbers(content["mean"], channels), "mean", f"a list of {channels} numbers")
    must(
        _numbers(content["std"], channels) and min(content["std"]) >= _SMALLEST_STD,
        "std",
        f"a list of {channels} numbers of at least {_SMALLEST_STD}",
    )
    must(content["resize"] in get_args(Resize), "resize", "'crop' or 'letterbox'")
    for name in ("grey_range", "float_range"):
        ends = content[name]
        increasing = _numbers(list(ends), 2) and ends[0] < ends[1] if _is_list(ends) else False
        must(ends is None or increasing, name, "two increasing numbers or null")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return ModelInfo(**values)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(isinstance(item, str) and item.strip() for item in value)
        and len(set(value)) == len(value)
    )


def _numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(
            isinstance(item, (int, float)) and not isinstance(item, bool) and abs(item) <= _NUMBERS
            for item in value
        )
    )


def _check_sizes(stored: Stored, info: ModelInfo, folder: Path) -> None:
    """Checked before the network is built: a wrong number could need any amount of memory."""
    blocks = {name.split(".")[2] for name in stored.shapes if name.startswith("stages.0.")}
    first = stored.shapes.get("conv.weight", ())
    channels = first[1] if len(first) == 4 else None
    for name, said, held in (
        ("n", info.n, len(blocks)),
        ("in_channels", info.in_channels, channels),
    ):
        if said != held:
            raise InputError(
                f"{folder}: the weights do not fit {MODEL}, which says {name} = {said}. "
                f"The weights have {'none' if held is None else held}."
            )
    needed = 4 * values_of(info.n, len(info.classes), info.in_channels)
    if needed > _AT_MOST_MISSING + 2 * len(stored.content):  # what lacks a little is told exactly
        raise InputError(
            f"{folder}: the weights do not fit {MODEL}, which describes a network of {needed:,} "
            f"bytes. {WEIGHTS} has {len(stored.content):,}."
        )


def _check_fit(weights: Mapping[str, Any], expected: Mapping[str, Any], folder: Path) -> None:
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    wrong += [f"{name} is unknown to the model" for name in sorted(weights) if name not in expected]
    for name, wanted in expected.items():
        found = weights.get(name)
        if found is None or name.rpartition(".")[2] == EXTRA:
            continue  # extra state has any shape
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            wrong.append(f"{name} is {_kind(found)}, but the model has {_kind(wanted)}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{folder}: the weights do not fit {MODEL}: {'; '.join(wrong[:_SHOWN])}{more}."
        )


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
