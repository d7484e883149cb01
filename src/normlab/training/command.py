"""The command that makes a run again."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from ..data.config import DataConfig
from ..launch import started_by
from ..options import fields_of, words
from ..runs import FIELDS, RunConfig


def train_command(config: RunConfig, data: DataConfig, source: str) -> str:
    """The command line that makes this one run again: everything that differs from the defaults,
    and what another machine would choose otherwise.

    Args:
        config: of the run.
        data: as it was asked for.
        source: what to write for ``--data``.
    """
    settings = {
        name: value
        for name, value in asdict(config).items()
        if name != "processes"
        and (value != FIELDS[name].default or name in ("norm", "seed", "device", "kernels"))
    }
    asked = {
        name: getattr(data, name)
        for name, f in fields_of(DataConfig).items()
        if name != "source" and getattr(data, name) != f.default
    }
    parts = words({"data": source, **asked}, FIELDS), words(settings, FIELDS)
    program = [*started_by(config.processes), "normlab", "train"]
    return shlex.join([*program, *parts[0], *parts[1]])
