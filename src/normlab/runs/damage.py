"""What of a study or a run is not what was written, found before any of it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..files import read_json
from ..pages.words import counted, listed
from ..seals import DamagedError
from .integrity import check_listed, is_listed
from .layout import (
    DATA,
    LISTED,
    MODEL,
    PICTURES,
    PREDICTIONS,
    RECORD,
    SPLIT,
    STUDY,
    TUNING,
    WEIGHTS,
    is_run,
    is_study,
    tuning_folder,
)
from .record import INTERRUPTED, read_features, read_history, read_record
from .study_file import OtherFormatError, check_split_copy, read_data, read_question
from .tuning import read_tuning

Kind = Literal["run", "model", "question", "record", "rewritten"]
_SHOWN = 3


@dataclass(frozen=True)
class Damage:
    """Something of a study that is not what was written.

    Attributes:
        kind: ``run``; ``model``, a run of which nothing but its model is missing; ``question``,
            study.toml; ``record``, another file that is made once; ``rewritten``, a file that
            every call of compare writes.
        path: the run's folder, or the file.
        found: sentences that name files, and what was found.
        field: the setting whose tuning it belongs to; "" for the study itself.
    """

    kind: Kind
    path: Path
    found: tuple[str, ...]
    field: str = ""


def damage_of_run(folder: Path) -> tuple[InputError, ...]:
    """What is wrong with a run that has ended, file by file; nothing for one that has not.

    Every file is compared with the list of its record. A run of an earlier version has none: then
    its files are read, and its metrics compared with its predictions and its history.
    """
    if not is_run(folder):
        return ()
    try:
        record = read_record(folder)
    except InputError as error:
        return (error,)
    if record["status"] == INTERRUPTED:
        return ()
    found = []
    if is_listed(record):
        for name in LISTED:
            try:
                check_listed(folder, record, name)
            except InputError as error:
                found.append(error)
    try:
        if not found:
            read_history(folder, record)
            read_features(folder, record)
            if not is_listed(record) and (folder / PREDICTIONS).exists():
                _read_predictions(folder, record)
    except InputError as error:
        found.append(error)
    return tuple(found)


def damage_of_study(study: Path) -> list[Damage]:
    """What is wrong with a study, the tunings below it included.

    Raises:
        InputError: the study is of another format.
    """
    found = [*_of_study(study)]
    for below in sorted(path for path in tuning_folder(study, "").glob("*") if path.is_dir()):
        field = below.name
        if (below / TUNING).exists():
            try:
                read_tuning(study, field)
            except InputError as error:
                found.append(Damage("record", below / TUNING, _said(error), field))
        for part in ("trials", "tuned"):
            found += _of_study(below / part, field)
    return found


def refusal(study: Path, damage: Sequence[Damage], advice: str) -> InputError:
    """One message for all damage of a study: how much, some of it by name, and what to do."""
    runs = sum(one.kind == "run" for one in damage)
    files = len(damage) - runs
    much = [counted(number, what) for number, what in ((runs, "run"), (files, "file")) if number]
    said = [sentence for one in damage for sentence in one.found]
    more = f" There {'are' if len(said) - _SHOWN > 1 else 'is'} {len(said) - _SHOWN} more."
    return InputError(
        f"{listed(much)} of {study} {'are' if len(damage) > 1 else 'is'} damaged. "
        f"{' '.join(said[:_SHOWN])}{more if len(said) > _SHOWN else ''} {advice}"
    )


def _of_study(study: Path, field: str = "") -> Iterator[Damage]:
    for run in sorted(study.glob(f"runs/*/*/{RECORD}")):
        errors = damage_of_run(run.parent)
        if errors:
            said = tuple(sentence for error in errors for sentence in _said(error))
            yield Damage(_kind(errors), run.parent, said, field)
    for place in sorted(study.glob("runs/*/*")):
        if not place.is_dir():
            said = (f"{place} is a file, and should be the folder of a run.",)
            yield Damage("run", place, said, field)
    if not is_study(study):
        return
    try:
        read_question(study)
    except OtherFormatError:
        raise
    except InputError as error:
        yield Damage("question", study / STUDY, _said(error), field)
    else:
        try:
            check_split_copy(study)
        except InputError as error:
            yield Damage("record" if field else "rewritten", study / SPLIT, _said(error), field)
    for path in sorted((study / "checks" / "same-function").glob("*.json")):
        try:
            read_json(path)
        except InputError as error:
            yield Damage("record", path, _said(error), field)
    try:
        read_data(study)
    except InputError as error:
        yield Damage("record" if field else "rewritten", study / DATA, _said(error), field)
    if (study / PICTURES).exists():
        try:
            _read_pictures(study)
        except InputError as error:
            yield Damage("rewritten", study / PICTURES, _said(error), field)


def _kind(errors: Sequence[InputError]) -> Kind:
    """Somebody who deletes models to save space has not damaged what a study rests on."""
    missing = (MODEL, WEIGHTS)
    gone = [isinstance(e, DamagedError) and e.path.name in missing and not e.path.exists()
            for e in errors]  # fmt: skip
    return "model" if all(gone) else "run"


def _said(error: InputError) -> tuple[str, ...]:
    return (error.found if isinstance(error, DamagedError) else str(error),)


def _read_predictions(folder: Path, record: dict[str, object]) -> None:
    from .predictions import read_predictions  # NumPy takes a tenth of a second

    metrics = record.get("metrics")
    for split in metrics if isinstance(metrics, dict) else ():
        read_predictions(folder, split, record)


def _read_pictures(study: Path) -> None:
    from .pictures import read_pictures  # likewise

    read_pictures(study)
