"""The configuration of a run: all that decides its numbers beside the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from ..errors import InputError, did_you_mean

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "step", "cosine"]
Precision = Literal["float32", "bfloat16"]
Budget = Literal["epochs", "updates"]
LrScaling = Literal["none", "linear", "sqrt"]
Device = Literal["cpu", "cuda"]


def _setting(default: Any, help: str, check: str = "") -> Any:
    return field(default=default, metadata={"help": help, "check": check})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run. Frozen; goes to JSON and back; its hash with the data's fingerprint names the run.

    Raises:
        InputError: an impossible value, naming the field, the value and what is possible.

    >>> config = RunConfig(norm="gn:groups=4", batch_size=8, accumulate=4)
    >>> config.images_per_update, config.lr
    (32, 0.02)
    >>> RunConfig.from_dict(config.to_dict()) == config
    True
    >>> RunConfig(epochs=0)
    Traceback (most recent call last):
    normlab.errors.InputError: epochs must be >= 1, got 0
    """

    norm: str = _setting("bn", "Normalization, with options after a colon (gn:groups=4).")
    seed: int = _setting(0, "Fixes initial weights, order and augmentation.", ">= 0")
    n: int = _setting(2, "Blocks a stage of the network, which has 6n+2 layers.", ">= 1")
    shortcut: Literal["A", "B"] = _setting("A", "Shortcut where shapes change: A has no weights.")
    epochs: int = _setting(8, "Passes over the training images.", ">= 1")
    batch_size: int = _setting(32, "Images a forward pass: what batch statistics see.", ">= 1")
    accumulate: int = _setting(
        1, "Batches whose gradients make one update; statistics stay those of a batch.", ">= 1"
    )
    budget: Budget = _setting(
        "epochs",
        "updates: an epoch is as many updates as one pass in batches of reference_batch, so "
        "that arms of different batch size make equally many.",
    )
    reference_batch: int = _setting(32, "Batch that budget and lr_scaling refer to.", ">= 1")
    lr: float = _setting(0.02, "Learning rate at its highest.", "> 0")
    lr_scaling: LrScaling = _setting(
        "none", "Learning rate times (images an update / reference_batch), or its square root."
    )
    optimizer: Optimizer = _setting("sgd", "Optimizer.")
    momentum: float = _setting(0.9, "Momentum of SGD (beta 1 of AdamW).", "in [0, 1)")
    nesterov: bool = _setting(False, "Nesterov momentum.")
    weight_decay: float = _setting(5e-4, "Weight decay.", ">= 0")
    decay_all: bool = _setting(False, "Decay normalization parameters and biases too.")
    schedule: Schedule = _setting("cosine", "Course of the learning rate after warm-up.")
    warmup: float = _setting(0.1, "Share of the run with linear warm-up.", "in [0, 1)")
    step_at: tuple[float, ...] = _setting(
        (0.5, 0.75), "Schedule step: where the rate drops, as shares of the run.", "in (0, 1)"
    )
    step_factor: float = _setting(0.1, "Schedule step: factor at each drop.", "in (0, 1)")
    patience: int | None = _setting(
        None, "Stop when validation accuracy has not risen for so many epochs.", ">= 1"
    )
    label_smoothing: float = _setting(0.0, "Label smoothing in the training loss.", "in [0, 1)")
    clip_norm: float | None = _setting(None, "Clip the gradient's norm to this.", "> 0")
    precision: Precision = _setting("float32", "bfloat16 trains under autocast.")
    crop_pad: int = _setting(0, "Augment: pad by so many pixels and crop back at random.", ">= 0")
    flip: bool = _setting(False, "Augment: mirror half of the images left to right.")
    record_features: bool = _setting(
        False, "Record percentiles of the penultimate features over validation, by epoch."
    )
    device: Device = _setting("cpu", "Where it runs.")
    threads: int = _setting(1, "CPU threads of the run; another number gives other bits.", ">= 1")

    def __post_init__(self) -> None:
        hints = get_type_hints(RunConfig)
        for f in fields(self):
            value = _coerced(f.name, getattr(self, f.name), hints[f.name])
            _check_bounds(f.name, value, f.metadata["check"])
            object.__setattr__(self, f.name, value)
        if self.nesterov and (self.momentum == 0 or self.optimizer != "sgd"):
            raise InputError("nesterov needs the optimizer sgd and a momentum above 0")

    @property
    def images_per_update(self) -> int:
        """The batch of the gradient: ``batch_size * accumulate``."""
        return self.batch_size * self.accumulate

    def updates_per_epoch(self, images: int) -> int:
        """Updates of the optimizer in an epoch over so many training images.

        With the budget ``epochs`` an epoch is one pass, and its last update may be of fewer
        images; with ``updates`` it is ceil(images / reference_batch) updates.

        >>> RunConfig(batch_size=8).updates_per_epoch(1000)
        125
        >>> RunConfig(batch_size=8, budget="updates").updates_per_epoch(1000)
        32
        """
        if self.budget == "updates":
            return math.ceil(images / self.reference_batch)
        return math.ceil(math.ceil(images / self.batch_size) / self.accumulate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or TOML (None stays None)."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The reverse of :meth:`to_dict`; fields left out take their defaults.

        Raises:
            InputError: an unknown field or an impossible value.
        """
        check_fields(values)
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


FIELDS: Mapping[str, Any] = {f.name: f for f in fields(RunConfig)}
"""Name to dataclass field, with help text in ``metadata["help"]``."""


def check_fields(values: Mapping[str, Any]) -> None:
    """Refuse names that are no field of :class:`RunConfig`."""
    for name in values:
        if name not in FIELDS:
            raise InputError(
                f"{name!r} is not a field of a run{did_you_mean(name, FIELDS)}; "
                f"fields are {', '.join(FIELDS)}"
            )


def _coerced(name: str, value: Any, hint: Any) -> Any:
    """The value in the field's type, or an error: 3 is a fine float, True is not an int."""
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        if value not in choices:
            hinted = did_you_mean(str(value), choices)
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hinted}")
        return value
    if type(None) in choices:
        return None if value is None else _coerced(name, value, choices[0])
    if hint == tuple[float, ...]:
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{name} must be a list of numbers, got {value!r}")
        return tuple(_coerced(name, item, float) for item in value)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    good = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value, good = float(value), True
    if not good:
        raise InputError(f"{name} must be {words[hint]}, got {value!r}")
    return value


_BOUNDS = {
    ">= 0": lambda v: v >= 0,
    ">= 1": lambda v: v >= 1,
    "> 0": lambda v: v > 0,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in (0, 1)": lambda v: 0 < v < 1,
}


def _check_bounds(name: str, value: Any, check: str) -> None:
    if not check or value is None:
        return
    for item in value if isinstance(value, tuple) else (value,):
        if not (math.isfinite(item) and _BOUNDS[check](item)):
            raise InputError(f"{name} must be {check}, got {item!r}")
