"""What was tuned and what was chosen: ``tuning.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from .config import FIELDS
from .integrity import AGAIN
from .layout import STUDY, TUNING, tuning_folder
from .schema import check_tuning


@dataclass(frozen=True)
class Search:
    """What is tuned.

    Attributes:
        field: of ``RunConfig``.
        shared: its value where nothing is tuned.
        values: the grid to begin with; numbers in ascending order.
        seeds: of the trials.
    """

    field: str
    shared: Any
    values: tuple[Any, ...]
    seeds: tuple[int, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that the best one can be at an edge."""
        return all(is_number(value) for value in self.values)

    def trials(self, arms: int) -> int:
        """Runs of the grid as it begins."""
        return arms * len(self.values) * len(self.seeds)

    def trial(self, arm: str, value: Any) -> str:
        """The name of an arm at a value."""
        return f"{arm},{self.field}={value}"


@dataclass(frozen=True)
class ChosenValue:
    """What was chosen for an arm.

    Attributes:
        arm: of the study.
        value: of the field; the shared one where every trial diverged.
        name: the arm's name at that value.
        edge: "lowest" or "highest" where the value is at an edge of the last grid, else "".
        failed: whether every trial of the arm diverged.
    """

    arm: str
    value: Any
    name: str
    edge: str = ""
    failed: bool = False


@dataclass(frozen=True)
class TuningRecord:
    """A tuned setting of a study.

    Attributes:
        search: what was asked.
        values: the grid as it became.
        choices: one per arm.
        limit: why the grid stopped growing although a best value is at its edge; "" otherwise.
    """

    search: Search
    values: tuple[Any, ...]
    choices: tuple[ChosenValue, ...]
    limit: str

    def write(self, study: Path) -> None:
        """Write tuning.json into a study's folder."""
        search = self.search
        write_json(
            tuning_folder(study, search.field) / TUNING,
            {
                "field": search.field,
                "shared": search.shared,
                "grid": list(search.values),
                "values": list(self.values),
                "seeds": list(search.seeds),
                "limit": self.limit,
                "choices": [asdict(choice) for choice in self.choices],
            },
        )


def read_tuning(study: Path, field: str) -> TuningRecord | None:
    """What was tuned of a field; None where nothing was, or not to the end.

    Raises:
        InputError: the file cannot be read.
    """
    path = tuning_folder(study, field) / TUNING
    if not path.is_file():
        return None
    stated = read_json(path, AGAIN)
    check_tuning(stated, path)
    return TuningRecord(
        Search(stated["field"], stated["shared"], tuple(stated["grid"]), tuple(stated["seeds"])),
        tuple(stated["values"]),
        tuple(
            ChosenValue(**{f.name: chosen[f.name] for f in fields(ChosenValue) if f.name in chosen})
            for chosen in stated["choices"]
        ),
        stated["limit"],
    )


def tuned_fields(study: Path) -> list[str]:
    """The fields that were tuned, sorted."""
    return _fields_with(study, TUNING)


def searched_fields(study: Path) -> list[str]:
    """The fields whose tuning was begun, whether or not it came to a choice; sorted."""
    return _fields_with(study, f"trials/{STUDY}")


def _fields_with(study: Path, name: str) -> list[str]:
    """The fields whose folder has a file. Whatever else lies there is none of ours."""
    return sorted(field for field in FIELDS if (tuning_folder(study, field) / name).is_file())


def is_number(value: Any) -> bool:
    """Whether a setting's value is a number; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
