"""On which machines runs are made: a setting of a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from ..options import checked, fields_of, option
from ..processes import Cluster, Needs, check_installed, joined
from ..runs import RunConfig


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Where runs are made: a setting of a call, which changes no result.

    >>> Machines().engine
    'processes'

    Raises:
        InputError: an impossible value, a cluster without its address, or a missing package.
    """

    engine: Literal["processes", "ray", "dask"] = option(
        "processes",
        "Where runs are made: in processes of this machine, or on the machines of a Ray or a Dask "
        "cluster that see the same folders. Does not change results.",
    )
    engine_address: str | None = option(
        None,
        "The cluster's address: of Ray auto or HOST:PORT, of Dask tcp://HOST:PORT or the "
        "scheduler's file.",
    )

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)
        if self.engine == "processes" and self.engine_address is not None:
            raise InputError("--engine-address needs --engine ray or --engine dask.")
        if self.engine != "processes" and not self.engine_address:
            example = "auto" if self.engine == "ray" else "tcp://10.0.0.5:8786"
            raise InputError(
                f"--engine {self.engine} needs the cluster's address, for example "
                f"--engine-address {example}"
            )
        if self.engine != "processes":
            check_installed(self.engine)

    @contextmanager
    def joined(self, configs: Iterable[RunConfig], workers: int | None) -> Iterator[Cluster | None]:
        """The cluster within this block; None where runs are made here.

        Args:
            configs: of the runs.
            workers: runs side by side, at most.

        Raises:
            InputError: there is none, or it has not what these runs need.
        """
        if self.engine == "processes":
            yield None
            return
        known = list(configs)
        needs = Needs(
            threads=max(config.threads for config in known),
            gpu=any(config.device == "cuda" for config in known),
            at_once=workers,
        )
        with joined(self.engine, str(self.engine_address), needs) as cluster:
            yield cluster


MACHINES_FIELDS = fields_of(Machines)
"""Name to dataclass field."""
