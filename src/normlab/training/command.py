"""Settings as the words of a command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..data import DataSet
from ..runs import FIELDS, RunConfig


def options(values: Mapping[str, Any]) -> list[str]:
    """Options for these values: ``--name value``, nothing for None.

    A list of values of a field that holds one is written with commas, as a grid.
    """
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        tuple_field = name in FIELDS and isinstance(FIELDS[name].default, tuple)
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list) and not tuple_field:
            words += [f"--{flag}", ",".join("none" if v is None else str(v) for v in value)]
        elif isinstance(value, (list, tuple)):
            words += [word for item in value for word in (f"--{flag}", str(item))]
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return words


def train_command(config: RunConfig, data: DataSet) -> str:
    """The command line that makes this one run again, from a folder that has the data under its
    own name: what differs from the defaults. A split drawn otherwise than by default has no
    option; it is in run.json."""
    settings = {
        name: value
        for name, value in asdict(config).items()
        if value != FIELDS[name].default or name in ("norm", "seed")
    }
    asked = {
        "data": data.name,
        "image_size": data.config.image_size,
        "limit_per_class": data.config.limit_per_class,
    }
    skip = ["--skip-bad"] if data.config.skip_bad else []
    return shlex.join(["normlab", "train", *options(asked), *skip, *options(settings)])
