"""What names a run: it lasts when settings are added, and changes when meanings do."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from normlab.data import DataConfig, DataSet, load
from normlab.options import option
from normlab.runs import (
    FIELDS,
    RECIPE,
    RunConfig,
    identities,
    identity,
    is_same_run,
    is_superseded,
    read_history,
)
from normlab.training import train

DEFAULTS = {
    1: {
        "norm": "bn", "seed": 0, "n": 2, "shortcut": "A", "epochs": 8, "batch_size": 32,
        "accumulate": 1, "budget": "epochs", "reference_batch": 32, "lr": 0.02,
        "lr_scaling": "none", "optimizer": "sgd", "momentum": 0.9, "nesterov": False,
        "weight_decay": 5e-4, "decay_all": False, "schedule": "cosine", "warmup": 0.1,
        "step_at": (0.5, 0.75), "step_factor": 0.1, "patience": None, "label_smoothing": 0.0,
        "clip_norm": None, "precision": "float32", "crop_pad": 0, "flip": False,
        "record_features": False, "device": "cpu", "threads": 1, "balance": "none",
        "kernels": "torch", "processes": 1, "statistics": "synchronized",
        "model": "resnet6n2", "weights": None, "start": "distilled", "weights_least": 0.9,
        "freeze_to": None, "head_lr": None,
    },
}  # fmt: skip
"""The defaults of every recipe. A new setting joins the recipe that it appears in; a changed
default raises ``RECIPE`` and gets a list of its own here."""

SMALL: dict[str, Any] = {"n": 1, "epochs": 2, "batch_size": 16}
MEANINGS: dict[int, dict[str, tuple[dict[str, Any], float, float]]] = {
    1: {
        "plain": ({}, 1.74256, 1.92649),
        "norm": ({"norm": "gn"}, 1.98833, 1.98781),
        "gates": ({"norm": "bin", "lr": 0.1}, 1.04502, 1.12688),
        "no norm": ({"norm": "none"}, 2.10670, 2.09209),
        "seed": ({"seed": 1}, 1.75229, 1.93780),
        "depth": ({"n": 2}, 1.16821, 1.75059),
        "shortcut": ({"shortcut": "B"}, 1.69642, 1.91403),
        "batch": ({"batch_size": 8}, 1.36515, 1.35348),
        "accumulate": ({"accumulate": 2}, 2.12148, 2.17507),
        "updates": ({"budget": "updates", "batch_size": 8}, 2.28185, 2.23439),
        "reference": ({"budget": "updates", "reference_batch": 8}, 1.09652, 1.27810),
        "rate": ({"lr": 0.05}, 1.36729, 1.53291),
        "scaled rate": ({"lr_scaling": "linear"}, 2.06705, 2.16883),
        "root of the rate": ({"lr_scaling": "sqrt"}, 1.90278, 2.04755),
        "momentum": ({"momentum": 0.0}, 2.24689, 2.31396),
        "nesterov": ({"nesterov": True}, 1.63776, 1.84955),
        "decay": ({"weight_decay": 0.5}, 1.77091, 2.08132),
        "decay of all": ({"weight_decay": 0.5, "decay_all": True}, 1.85379, 2.20949),
        "adamw": ({"optimizer": "adamw", "lr": 0.003}, 1.07971, 1.29866),
        "adamw decay": ({"optimizer": "adamw", "lr": 0.003, "weight_decay": 5.0}, 1.12085, 1.48043),
        "constant": ({"schedule": "constant"}, 1.64233, 1.62778),
        "step": ({"schedule": "step"}, 1.76272, 2.00565),
        "drops": ({"schedule": "step", "step_at": (0.25,)}, 2.08820, 2.17932),
        "factor": ({"schedule": "step", "step_factor": 0.5}, 1.69193, 1.83345),
        "warmup": ({"warmup": 0.5}, 1.76131, 1.85748),
        "smoothing": ({"label_smoothing": 0.2}, 1.83494, 2.00552),
        "clipping": ({"clip_norm": 0.1}, 2.64081, 2.59557),
        "crop": ({"crop_pad": 1}, 2.30210, 2.30975),
        "flip": ({"flip": True}, 2.00955, 2.09972),
        "balanced draws": ({"balance": "sampling"}, 1.70721, 1.98267),
        "rate of the classifier": ({"head_lr": 0.2}, 1.54482, 1.70005),
        "frozen": ({"freeze_to": "stages.0"}, 1.83733, 2.02969),
    },
}
"""Of every recipe: settings next to ``SMALL``, and the training and validation loss of the second
epoch with them."""


@pytest.fixture(scope="module")
def few_digits() -> DataSet:
    return load(
        DataConfig(limit_per_class=8, limit_all_splits=True, val_fraction=0.15, test_fraction=0.15)
    )


def test_a_changed_default_needs_another_recipe() -> None:
    now = {name: f.default for name, f in FIELDS.items()}
    assert RECIPE in DEFAULTS, "a raised RECIPE needs its defaults written down here"
    assert now == DEFAULTS[RECIPE], (
        "a default changed: raise RECIPE in runs/identities.py, so that finished runs are not "
        "taken for runs with the new default"
    )


def test_every_setting_that_trains_has_a_meaning_written_down() -> None:
    varied = {name for fields, *_ in MEANINGS[RECIPE].values() for name in fields}
    same_numbers = {
        "epochs", "warmup", "patience", "precision", "record_features", "device", "threads",
        "kernels", "processes", "statistics",  # tests/training/test_several_processes.py
        "model", "weights", "start", "weights_least",  # tests/training/test_starts.py
    }  # fmt: skip
    assert varied | same_numbers >= set(FIELDS)


def test_a_changed_meaning_needs_another_recipe(few_digits: DataSet, tmp_path: Path) -> None:
    for name, (fields, training, validation) in MEANINGS[RECIPE].items():
        train(RunConfig(**{**SMALL, **fields}), few_digits, tmp_path / name)
        rows = [row for row in read_history(tmp_path / name) if row["epoch"] == 2]
        # Other processors round otherwise; another meaning moves more than that.
        assert [row["loss"] for row in rows] == pytest.approx([training, validation], rel=2e-3), (
            f"{name}: {fields} means something else now: raise RECIPE in runs/identities.py"
        )


def test_a_new_setting_leaves_every_identity_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, dict[str, Any]] = {"plain": {}, "other": {"norm": "gn", "lr": 0.1, "seed": 3}}
    before = {name: identity(RunConfig(**fields), "data", {}) for name, fields in asked.items()}
    wider: Any = dataclasses.make_dataclass(
        "Wider", [("mixup", float, option(0.0, "A setting of tomorrow.", ">= 0"))],
        bases=(RunConfig,), frozen=True, kw_only=True,
    )  # fmt: skip
    monkeypatch.setattr(identities, "FIELDS", {f.name: f for f in dataclasses.fields(wider)})
    for name, fields in asked.items():
        assert identity(wider(**fields), "data", {}) == before[name]
    assert identity(wider(mixup=0.2), "data", {}) != before["plain"]


def test_a_raised_recipe_names_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(RunConfig(), "data", {})
    monkeypatch.setattr(identities, "RECIPE", RECIPE + 1)
    assert identity(RunConfig(), "data", {}) != before


def test_runs_named_before_recipes_were_counted_are_still_known() -> None:
    config = RunConfig(norm="gn", lr=0.1)
    later = {"balance", "kernels", "processes", "statistics", "model", "weights", "start"}
    later |= {"weights_least", "freeze_to", "head_lr"}
    first = {name: value for name, value in config.to_dict().items() if name not in later}
    text = json.dumps({"config": first, "data": "d"}, sort_keys=True)
    record = {"identity": hashlib.sha256(text.encode()).hexdigest()}
    assert is_same_run(record, config, "d", {})
    assert not is_same_run(record, config, "e", {})
    assert not is_same_run(record, dataclasses.replace(config, lr=0.2), "d", {})
    # Their code was not counted, so it may have been any.
    assert not is_same_run(record, config, "d", {"mine.py": "1"})


def test_other_code_is_told_from_another_question() -> None:
    config = RunConfig(norm="mine:Layer")
    record = {
        "identity": identity(config, "d", {"mine.py": "1"}),
        "config": config.to_dict(),
        "data": {"fingerprint": "d"},
    }
    assert is_same_run(record, config, "d", {"mine.py": "1"})
    assert not is_superseded(record, config, "d", {"mine.py": "1"})
    assert is_superseded(record, config, "d", {"mine.py": "2"})
    assert not is_superseded(record, config, "e", {"mine.py": "2"})
    assert not is_superseded(record, dataclasses.replace(config, lr=0.1), "d", {"mine.py": "2"})
    assert not is_superseded(record, dataclasses.replace(config, balance="loss"), "d", {})
