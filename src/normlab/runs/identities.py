"""What names a run: its settings, its data, the code of layers and networks that are not ours, and
the weights that it starts from.

A setting counts by where it differs from its default, so a setting that is added later leaves the
identity of every run as it was. A default or a meaning that changes raises :data:`RECIPE`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .config import AS_IS, FIELDS, RunConfig

RECIPE = 1
"""Raised whenever a default of ``RunConfig`` or the meaning of a setting changes. Rounding is no
meaning: as hardware and the versions of packages do, it may move the last digits of a number."""

CUSTOM = 2
"""Likewise of layers that are not ours: raised whenever the same code of a layer gives other runs.
2: weights inside such a layer are its own, and what it draws depends on seed and site alone."""

_NO_NUMBERS = ("weights", "weights_least")
"""Settings that move no number by themselves. Weights count by what they are, with the code."""

SMOOTHED = 2
"""Likewise of runs with label smoothing. 2: history.csv has their training loss without it, as it
has the validation loss; their weights are those of 1."""

_FIRST_FIELDS = (
    "norm", "seed", "n", "shortcut", "epochs", "batch_size", "accumulate", "budget",
    "reference_batch", "lr", "lr_scaling", "optimizer", "momentum", "nesterov", "weight_decay",
    "decay_all", "schedule", "warmup", "step_at", "step_factor", "patience", "label_smoothing",
    "clip_norm", "precision", "crop_pad", "flip", "record_features", "device", "threads",
)  # fmt: skip
"""The settings there were when identities were hashes of all of them."""


def identity(config: RunConfig, data: str, code: Mapping[str, str]) -> str:
    """The identity of a run: SHA-256 of what decides its numbers.

    Args:
        config: its settings; those at their defaults do not count.
        data: the fingerprint of its data.
        code: file to SHA-256, for a layer or a network that is not ours
            (:func:`normlab.foreign.code_of`), and for weights that it starts from. These count by
            what they are, not by where they are.

    >>> plain = identity(RunConfig(), "fingerprint", {})
    >>> identity(RunConfig(epochs=8), "fingerprint", {}) == plain  # 8 is the default
    True
    >>> identity(RunConfig(epochs=9), "fingerprint", {}) == plain
    False
    """
    settings = {
        name: value
        for name, value in config.to_dict().items()
        if value != _plain(FIELDS[name].default) and name not in _NO_NUMBERS
    }
    if config.norm == AS_IS:
        settings.pop("start", None)  # nothing is converted
    content = {"recipe": RECIPE, "settings": settings, "data": data, "code": dict(code)}
    if code:
        content["custom"] = CUSTOM
    if config.label_smoothing:
        content["smoothed"] = SMOOTHED
    return _hash(content)


def is_same_run(
    record: Mapping[str, Any], config: RunConfig, data: str, code: Mapping[str, str]
) -> bool:
    """Whether a record is that of this very run."""
    known = record.get("identity")
    return known == identity(config, data, code) or (
        # Before recipes were counted, every setting counted and code did not.
        RECIPE == 1
        and not code
        and not config.label_smoothing
        and known == _first_identity(config, data)
    )


def is_superseded(
    record: Mapping[str, Any], config: RunConfig, data: str, code: Mapping[str, str]
) -> bool:
    """Whether a record is that of these settings and data, but would be made otherwise now: the
    code of its layer has changed, or what normlab makes of the settings."""
    if record.get("config") is None or is_same_run(record, config, data, code):
        return False
    defaults = {name: _plain(f.default) for name, f in FIELDS.items()}
    return {**defaults, **record["config"]} == config.to_dict() and record.get("data", {}).get(
        "fingerprint"
    ) == data


def has_smoothed_loss(record: Mapping[str, Any]) -> bool:
    """Whether the training loss of a run's history includes its label smoothing, as that of runs
    made before :data:`SMOOTHED` was counted does."""
    config = record.get("config") or {}
    if not config.get("label_smoothing"):
        return False
    data = str((record.get("data") or {}).get("fingerprint"))
    made = identity(RunConfig.from_dict(config), data, record.get("code") or {})
    return bool(record.get("identity") != made)


def _first_identity(config: RunConfig, data: str) -> str | None:
    values = config.to_dict()
    later = {name: value for name, value in values.items() if name not in _FIRST_FIELDS}
    if any(value != _plain(FIELDS[name].default) for name, value in later.items()):
        return None
    return _hash({"config": {name: values[name] for name in _FIRST_FIELDS}, "data": data})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
