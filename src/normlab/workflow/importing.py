"""A trained network of a person's own, as a model that every command reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.cache import Progress
from ..destinations import check_folder
from ..errors import InputError

if TYPE_CHECKING:
    from ..runs import Metrics


@dataclass(frozen=True)
class ImportedModel:
    """What :func:`import_model` made.

    Attributes:
        folder: the model's.
        said: what was loaded, and what else a person should know, as sentences.
        accuracy: on the validation images of the data, a share of 1.
    """

    folder: Path
    said: tuple[str, ...]
    accuracy: float


def import_model(
    model: str,
    weights: str | Path,
    data: Mapping[str, Any],
    out: str | Path,
    *,
    least: float | None = None,
    progress: Progress | None = None,
) -> ImportedModel:
    """Write a network with its trained weights as a model that ``inspect``, ``predict``,
    ``explain``, ``convert``, ``recalibrate``, ``freeze``, ``fold`` and ``export`` read, and that
    ``compare`` and ``train`` start from with ``--weights``.

    The model is evaluated on the validation images of the data. An accuracy that is not what you
    know of it tells that pixels, classes or their order are not those that it was trained with.

    Args:
        model: the network, as for ``compare``; you trust its code.
        weights: a file of weights (:func:`normlab.models.start_from`).
        data: fields of ``DataConfig``: images of the classes that the model tells apart, at the
            size that it takes.
        out: a folder for the model, which does not exist yet.
        least: the smallest share of the parameters that the file must have; 0.9 unless given.
        progress: is told about reading the data.

    Raises:
        InputError: a network that cannot be made or does not take the images; weights that do not
            fit, or whose classifier is of another size; an ``out`` that exists or cannot be
            written. Nothing is written then.
    """
    from ..data import DataConfig, DeviceSplit, load
    from ..models import save_model
    from ..runs import AS_IS, OUR_NETWORK, RunConfig
    from ..training import code_of_run, evaluate, started

    check_folder(out, "--out")
    target = Path(out)
    if os.path.lexists(target):
        raise InputError(f"{target} exists already. Choose another folder with --out.")
    if model == OUR_NETWORK:
        raise InputError(
            f"A model of {OUR_NETWORK} is what normlab train writes. import is for other networks."
        )
    config = RunConfig(model=model, norm=AS_IS, weights=str(weights))
    if least is not None:
        config = replace(config, weights_least=least)
    dataset = load(DataConfig(**data), progress=progress)
    built = started(config, dataset)
    loaded = built.loaded
    assert loaded is not None
    if loaded.classifier:
        raise InputError(
            f"The classifier {loaded.classifier} of {weights} is not for the "
            f"{len(dataset.classes)} classes of {dataset.name}. Give images of its own classes "
            "with --data. To train it for these classes, give the weights to compare or train."
        )
    classes = len(dataset.classes)
    found = evaluate(built.model, DeviceSplit(dataset, "val", config.device), classes, "float32")
    code = {name: known for name, known in code_of_run(config).items() if name != "initial weights"}
    save_model(
        target,
        built.info,
        built.model.state_dict(),
        {
            "arm": built.info.norm,
            "network": model,
            "parameters": sum(p.numel() for p in built.model.parameters()),
            "sites": [{"name": site.name, "layer": site.detail} for site in built.sites],
            **_code(code, model),
            "data": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "images": {name: len(split) for name, split in dataset.splits.items()},
                "resize_rule": dataset.resize_rule,
            },
            "metrics": {"val": _numbers(found.metrics)},
            "metrics_note": "evaluation mode, no augmentation; whether the model was trained on "
            "these images is not known",
            "changes": [
                f"Imported from a file of weights: {sentence}" for sentence in loaded.sentences
            ],
        },
    )
    return ImportedModel(target, built.notes, found.metrics.accuracy)


def _code(code: Mapping[str, str], model: str) -> dict[str, Any]:
    from ..foreign import factory_of, origin_of

    if not code:
        return {}
    origin = origin_of(factory_of(model))
    return {"code": dict(code), **({"network_origin": origin} if origin else {})}


def _numbers(metrics: Metrics) -> Mapping[str, Any]:
    from ..values import json_numbers

    found: Mapping[str, Any] = json_numbers(asdict(metrics))
    return found
