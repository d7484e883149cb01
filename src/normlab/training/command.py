"""The command that makes a run again."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from ..data import DataSet
from ..data.config import DataConfig
from ..options import fields_of, words
from ..runs import FIELDS, RunConfig


def train_command(config: RunConfig, data: DataSet) -> str:
    """The command line that makes this one run again, from a folder that has the data under its
    own name: everything that differs from the defaults."""
    settings = {
        name: value
        for name, value in asdict(config).items()
        if value != FIELDS[name].default or name in ("norm", "seed")
    }
    asked = {
        name: getattr(data.config, name)
        for name, f in fields_of(DataConfig).items()
        if name != "source" and getattr(data.config, name) != f.default
    }
    parts = words({"data": data.name, **asked}, FIELDS), words(settings, FIELDS)
    return shlex.join(["normlab", "train", *parts[0], *parts[1]])
