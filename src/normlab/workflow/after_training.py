"""What is done to a trained model's normalization: a new model, beside the run that it is of."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.cache import Progress
from ..destinations import check_folder
from ..errors import InputError
from ..foreign import code_of
from ..options import whole
from ..pages.words import counted
from .exporting import own_data

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data import DataSet
    from ..models import ModelInfo

BATCH = 256
"""Images of a batch that statistics are taken of."""
PASSES = 20
"""Passes of each network that are timed."""
_PIXELS = 1 << 16
"""Of the images that a network is tried on; there are from 2 to 32 images."""
_TRIED = (2, 32)
_OF_THE_RUN = ("metrics", "metrics_note", "chosen_epoch", "command")
"""What a card says of the run, and not of what was made of its model."""
_FILTERS = "+ws"
"""Ends the names of arms that normalize weights and have a layer of another arm."""
_ROUNDING = 1e-4
"""Largest permitted difference of a logit, as a share of the largest one (or of 1)."""


@dataclass(frozen=True)
class ChangedModel:
    """What was made of a run's model.

    Attributes:
        folder: the new model's.
        norm: its normalization.
        said: what was done and what was measured, in sentences.
    """

    folder: Path
    norm: str
    said: tuple[str, ...]


def recalibrate_run(
    run: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    batch_size: int = BATCH,
    device: str = "auto",
    trust: bool = False,
    progress: Progress | None = None,
) -> ChangedModel:
    """Write a run's model with the precise statistics of its training images.

    See :func:`normlab.recalibrate` for the formula. The images are those of the training split,
    shuffled and not augmented. Where they have the model's classes, the accuracy on the validation
    split is measured before and after.

    Args:
        run: a run's folder, or any folder with ``model.json`` and ``weights.safetensors``. Nothing
            in it is changed.
        out: a folder for the new model, which does not exist yet.
        data: a source of images in place of the run's own data.
        batch_size: images by which layers normalize meanwhile; the last batch may be smaller.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        trust: as for :func:`normlab.load_model`.
        progress: is told about reading the images of ``data``.

    Raises:
        InputError: no model in ``run``, one that is not trusted or has no running statistics; an
            ``out`` that exists or cannot be written; data that is gone or does not fit the model.
    """
    batch_size = whole("batch_size", batch_size)
    folder, out = Path(run), _target(run, out)
    from ..conversion import recalibrate
    from ..data import DeviceSplit
    from ..models import load_info, load_model
    from ..training import evaluate, resolve_device

    device = resolve_device(device)
    model, info = load_model(folder, trust=trust).to(device), load_info(folder)
    images = _images(folder, info, data, progress)
    known = images.classes == info.classes and len(images.splits["val"])

    def accuracy() -> float:
        split = DeviceSplit(images, "val", device)
        return 100 * evaluate(model, split, len(info.classes), "float32").metrics.accuracy

    before = accuracy() if known else 0.0
    batches = DeviceSplit(images, "train", device).epoch(batch_size, seed=0, epoch=1)
    done = recalibrate(model, batches)
    said = [
        f"Recalibrated: {len(done.layers)} layers have the statistics of {done.images:,} training "
        f"images of {images.name} (fingerprint {images.fingerprint}), in batches of {batch_size}."
    ]
    if done.unreached:
        said.append(f"Unchanged, as no image passes them: {', '.join(done.unreached)}.")
    if known:
        said.append(
            f"Validation accuracy {accuracy():.2f} %, before {before:.2f} % "
            f"({len(images.splits['val']):,} images)."
        )
    return _written(folder, out, info, model.cpu(), said)


def freeze_run(run: str | Path, out: str | Path, *, trust: bool = False) -> ChangedModel:
    """Write a run's model with frozen batch normalization: an arm ``frozen_bn``.

    See :func:`normlab.freeze`. The new model is compared with the old one before it is written.

    Args:
        run: as for :func:`recalibrate_run`.
        out: a folder for the new model, which does not exist yet.
        trust: as for :func:`normlab.load_model`.

    Raises:
        InputError: no model in ``run``, or none with batch normalization; an ``out`` that exists or
            cannot be written.
    """
    folder, out = Path(run), _target(run, out)
    from ..conversion import convert, freeze
    from ..models import code_of_model, load_info, load_model

    model, info = load_model(folder, trust=trust), load_info(folder)
    frozen = freeze(model)
    eps = [option for option in info.norm.split(":")[1:] if option.startswith("eps=")]
    norm = ":".join(["frozen_bn", *eps])
    with code_of_model(folder):
        made = _as_arm(model, frozen, info, [norm])
        if made is None:  # an eps of the network's own can become the arm's
            own = convert(model, norm, how="fresh", keep_eps=False).model
            made = _as_arm(model, own, info, [norm])
    if made is None:
        raise _refused(folder, info, "frozen")
    said = (
        "Frozen: batch normalization keeps the statistics, scales and shifts that it had. On "
        f"{made.images} images of random pixels, logits in float64 "
        + (f"differ by at most {made.difference:.1e}." if made.difference else "are the same.")
    )
    return _written(folder, out, made.info, made.model, [said])


def fold_run(
    run: str | Path, out: str | Path, *, passes: int = PASSES, trust: bool = False
) -> ChangedModel:
    """Write a run's model with its normalization folded into the convolutions.

    See :func:`normlab.fold`. What batch normalization, a frozen one and normalized weights leave is
    a network of plain convolutions with biases: an arm ``none``. Of ``gn+ws`` an arm ``gn`` is
    left. The new model is compared with the old one before it is written, and a pass of each is
    timed, in turns.

    Args:
        run: as for :func:`recalibrate_run`.
        out: a folder for the new model, which does not exist yet.
        passes: of each network that are timed.
        trust: as for :func:`normlab.load_model`.

    Raises:
        InputError: no model in ``run``, nothing to fold, or a network that would be no arm; an
            ``out`` that exists or cannot be written.
    """
    folder, out = Path(run), _target(run, out)
    from ..conversion import fold
    from ..models import code_of_model, load_info, load_model

    passes = whole("passes", passes)
    model, info = load_model(folder, trust=trust), load_info(folder)
    folded = fold(model, _random_images(info), passes=passes)
    name, *options = info.norm.split(":")
    norms = ["none"]
    if name.endswith(_FILTERS):
        options = [option for option in options if not option.startswith("weight_eps=")]
        norms.append(":".join([name.removesuffix(_FILTERS), *options]))
    with code_of_model(folder):
        made = _as_arm(model, folded.model, info, norms)
    if made is None:
        raise _refused(folder, info, "folded")
    what = []
    if folded.folded:
        what.append(f"{counted(len(folded.folded), 'layer')} into the convolutions before")
    if folded.plain:
        what.append(f"{counted(len(folded.plain), 'convolution')} with normalized weights")
    said = (
        f"Folded: {' and '.join(what)}. On {made.images} images of random pixels, logits in "
        f"float64 differ by at most {folded.difference:.1e}, and by {made.difference:.1e} with the "
        "new weights rounded to 32 bits."
    )
    changed = _written(folder, out, made.info, made.model, [said])
    assert folded.seconds is not None
    before, after = folded.seconds
    timed = (
        f"A pass over these images takes {1000 * after:.3g} ms, before {1000 * before:.3g} ms: "
        f"{before / after:.2f} times as fast (median of {passes} passes each, in turns)."
    )
    return replace(changed, said=(*changed.said, timed))  # of this machine: not for the card


def _target(run: str | Path, out: str | Path) -> Path:
    """Where the new model goes: nowhere that anything is."""
    check_folder(out, "--out")
    out = Path(out)
    if os.path.lexists(out):
        raise InputError(f"{out} exists already. Choose another folder with --out.")
    if out.resolve().is_relative_to(Path(run).resolve()):
        raise InputError(
            f"{out} would be inside {run}, which is not changed. Choose another folder with --out."
        )
    return out


def _images(
    folder: Path, info: ModelInfo, data: str | Path | None, progress: Progress | None
) -> DataSet:
    from ..data import DataConfig, load
    from ..data.levels import Levels

    if data is None:
        found = own_data(folder, info, "Give images with --data.")
    else:
        asked = DataConfig(source=str(data), image_size=info.image_size, resize=info.resize)
        found = load(asked, progress=progress, levels=Levels(info.grey_range, info.float_range))
        if found.channels != info.in_channels:
            raise InputError(
                f"{data} has {found.channels} colour channels, but the model takes "
                f"{info.in_channels}. Give images of the same kind."
            )
    return replace(found, mean=info.mean, std=info.std)


def _random_images(info: ModelInfo) -> Tensor:
    """Images of random pixels, as they enter the network: always the same."""
    import torch

    from ..keyed import rng

    least, most = _TRIED
    count = min(most, max(least, _PIXELS // info.image_size**2))
    shape = (count, info.in_channels, info.image_size, info.image_size)
    pixels = torch.from_numpy(rng(0, "images to compare models on").random(shape)).float()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (info.mean, info.std))
    return (pixels - mean) / std


@dataclass(frozen=True)
class _Arm:
    """An arm that is a changed network: its description, and the network with its weights.

    ``difference`` is the largest of a logit from the network before, both computed in float64 from
    the weights that are written.
    """

    info: ModelInfo
    model: torch.nn.Module
    difference: float
    images: int


def _as_arm(
    model: torch.nn.Module, changed: torch.nn.Module, info: ModelInfo, norms: Sequence[str]
) -> _Arm | None:
    """The first of these arms that computes what the changed network does; None if none does."""
    import torch

    from ..models import completed

    images = _random_images(info).double()

    def logits(network: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            found: Tensor = copy.deepcopy(network).double().eval()(images)
            return found

    before = logits(model)
    for norm in norms:
        new = replace(info, norm=norm)
        made = new.build(seed=0).eval()
        # Of a network that is not ours, convolutions that nothing was folded into have no bias.
        known = completed(copy.deepcopy(changed), norm)
        if made.state_dict().keys() != known.state_dict().keys():
            continue
        made.load_state_dict(known.state_dict())
        difference = float((before - logits(made)).abs().max())
        # Weights are rounded to 32 bits.
        if difference <= _ROUNDING * max(1.0, float(before.abs().max())):
            return _Arm(new, made, difference, len(images))
    return None


def _refused(folder: Path, info: ModelInfo, how: str) -> InputError:
    return InputError(
        f"The model in {folder} has {info.norm}. {how.capitalize()}, it is a network that no arm "
        "is, so it cannot be written as a model. Do it in Python: normlab.fold and normlab.freeze "
        "take any network."
    )


def _written(
    folder: Path, out: Path, info: ModelInfo, model: torch.nn.Module, said: Sequence[str]
) -> ChangedModel:
    """Write the new model. Its card says what it is of, and nothing that only holds for the run."""
    from ..models import check_sites, code_of_model, load_card, load_info, save_model
    from ..runs.layout import WEIGHTS
    from ..seals import digest

    card, before = load_card(folder), load_info(folder).norm
    seed = f", seed {card['seed']}" if "seed" in card else ""
    weights = digest((folder / WEIGHTS).read_bytes())
    said = [*said, f"Made of the model {before}{seed} with weights of SHA-256 {weights}."]
    kept = {name: value for name, value in card.items() if name not in _OF_THE_RUN}
    with code_of_model(folder):
        found = check_sites(model, info.norm)
        if info.norm != before:  # what there was of somebody's own layer is gone
            kept = {name: value for name, value in kept.items() if name not in ("code", "origin")}
            if code := code_of(info.factory):
                kept["code"] = code
    sites = [{"name": site.name, "layer": site.detail} for site in found]
    save_model(
        out,
        info,
        model.state_dict(),
        {
            **kept,
            "arm": info.norm,
            "parameters": sum(p.numel() for p in model.parameters()),
            "sites": sites,
            "changes": [*card.get("changes", ()), *said],
        },
    )
    return ChangedModel(out, info.norm, tuple(said))
