"""Whether the machines of a cluster have what the runs of a study need."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..data import DataSet
from ..errors import InputError, told
from ..files import write_text
from ..leftovers import mark
from ..pages.words import counted, listed
from ..processes import Cluster, on_every_machine
from ..runs import RunConfig
from ..training import code_of_run, kernels_of, versions
from .study import Study


@dataclass(frozen=True)
class Asked:
    """What a machine must have in order to make runs of a study. It travels with every run.

    Attributes:
        study: its folder.
        token: a file in it, and what it says.
        versions: of everything that can move a number.
        code: of every layer and network that is not ours, and of the weights that runs start from,
            each with a run that has it.
        kernels: a run for each kind of kernels.
    """

    study: Path
    token: tuple[str, str]
    versions: Mapping[str, str]
    code: tuple[tuple[RunConfig, Mapping[str, str]], ...]
    kernels: tuple[RunConfig, ...]

    def check(self) -> None:
        """On a machine: whether all of it is there.

        Raises:
            InputError: naming the machine and what is missing.
        """
        here = f"The machine {socket.gethostname()!r}"
        found = _versions()
        differ = [
            f"{name} {found.get(name, '(missing)')} instead of {wanted}"
            for name, wanted in self.versions.items()
            if found.get(name) != wanted
        ]
        if differ:
            raise InputError(f"{here} has other versions: {', '.join(differ)}.")
        name, content = self.token
        try:
            sees = (self.study / name).read_text(encoding="utf-8") == content
        except (OSError, UnicodeDecodeError):
            sees = False
        if not sees:
            raise InputError(
                f"{here} does not see the study's folder {self.study}. It must be on a file system "
                "that all machines share, under the same path."
            )
        try:
            with tempfile.TemporaryFile(dir=self.study):
                pass
        except OSError as error:
            raise InputError(
                f"{here} cannot write to the study's folder {self.study} ({error.strerror})."
            ) from error
        for config, code in self.code:
            named = f"the arm {config.norm} in {config.network}"
            try:
                known = code_of_run(config)
            except InputError as error:
                raise InputError(f"{here}: {error}") from error
            if missing := [name for name in code if name not in known]:
                raise InputError(
                    f"{here} does not find {listed(missing)} of {named}. It must be in the same "
                    "place on every machine, or installed there."
                )
            if known != code:
                raise InputError(f"{here} has other code or other weights for {named}.")
        for config in self.kernels:
            try:
                kernels_of(config)
            except InputError as error:
                raise InputError(f"{here}: {error}") from error

    def check_data(self, data: DataSet) -> None:
        """On a machine: likewise, and whether the images can be read.

        Raises:
            InputError: naming the machine and what is missing.
        """
        self.check()
        try:
            data.splits["train"].images([0])
        except InputError as error:
            raise InputError(
                f"The machine {socket.gethostname()!r} can read neither the cached images nor the "
                f"data {data.source}: {error}"
            ) from error


def _of_every_seed(study: Study, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The configurations; of those whose weights differ by seed one for each seed."""
    found = [replace(config, seed=seed) for config in configs for seed in study.plan.seeds]
    return list({(one.norm, one.model, one.weights_file): one for one in found}.values())


class StudyCluster:
    """A cluster that makes the runs of a study and of those below it.

    Args:
        cluster: the machines.
        study: whose runs they make.
        data: of the study.
    """

    def __init__(self, cluster: Cluster, study: Study, data: DataSet) -> None:
        self.engine, self._data = cluster, data
        folder = Path.cwd() / study.folder
        configs = list(study.plan.arms.values())
        self._token = folder / f".token.{mark()}.{os.urandom(4).hex()}.part"
        self.asked = Asked(
            folder,
            (self._token.name, os.urandom(16).hex()),
            _versions(),
            tuple((config, code_of_run(config)) for config in _of_every_seed(study, configs)),
            tuple({config.kernels: config for config in configs}.values()),
        )
        self._checked = False

    @property
    def said(self) -> str:
        """Such as "2 machines of the Dask cluster at tcp://10.0.0.5:8786"."""
        return f"{counted(len(self.engine.machines()), 'machine')} of {self.engine.name}"

    def check(self) -> None:
        """Whether all machines that are there have what runs need; asked once.

        Raises:
            InputError: naming each machine that has not.
        """
        if self._checked:
            return
        write_text(self._token, self.asked.token[1])
        found = on_every_machine(self.engine, _check_here, (self.asked, self._data))
        wrong = {machine: one.error for machine, one in found.items() if one.error is not None}
        if wrong:
            said = [
                f"- {error if isinstance(error, InputError) else _unforeseen(machine, error)}"
                for machine, error in wrong.items()
            ]
            raise InputError(
                f"{len(wrong)} of {counted(len(found), 'machine')} in {self.engine.name} cannot "
                "make these runs:\n" + "\n".join(said)
            )
        self._checked = True

    def side_by_side(self, workers: int) -> int:
        """How many runs share a machine."""
        return -(-workers // max(1, len(self.engine.machines())))

    def close(self) -> None:
        """Remove what was written for the machines to see."""
        with suppress(OSError):
            self._token.unlink(missing_ok=True)


@contextmanager
def making_runs(
    cluster: Cluster | None, study: Study, data: DataSet
) -> Iterator[StudyCluster | None]:
    """A cluster for the runs of a study, within this block; None where there is no cluster."""
    if cluster is None:
        yield None
        return
    made = StudyCluster(cluster, study, data)
    try:
        yield made
    finally:
        made.close()


def _check_here(asked: Asked, data: DataSet) -> None:
    asked.check_data(data)


def _unforeseen(machine: str, error: Exception) -> str:
    missing = isinstance(error, (ImportError, AttributeError))
    advice = " Install the same normlab and the same packages there." if missing else ""
    return f"{machine}: {told(error)}.{advice}"


def _versions() -> dict[str, str]:
    """Without the kernels, which every machine compiles for itself."""
    return {name: known for name, known in versions().items() if name != "kernels"}
