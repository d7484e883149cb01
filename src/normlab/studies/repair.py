"""A study with damage: refused, or put right from its runs when that was asked for.

Nothing is deleted. What is damaged goes to ``STUDY/damaged``; runs are then missing, and are made
again like any others.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..pages.words import counted, listed
from ..runs import RECORD, RunConfig, read_record, run_folder
from ..runs.damage import Damage, damage_of_study, refusal
from ..runs.layout import damaged_place, file_name
from ..runs.same_function import read_same_function
from ..runs.study_file import read_question
from ..runs.tuning import Search, read_tuning, tuned_fields
from .plan import Plan

BLOCKING = ("run", "question", "record")
"""Damage that waits for ``--repair``: of what is made once."""


def found_damage(study: Path) -> tuple[list[Damage], list[str]]:
    """What is to be put right before a study goes on, and what is to be said of the rest.

    Raises:
        InputError: the study is of another format.
    """
    found = damage_of_study(study)
    said = [
        f"{sentence} It is written anew."
        for one in found
        if one.kind == "rewritten"
        for sentence in one.found
    ]
    gone = [one.path for one in found if one.kind == "model"]
    if gone:
        more = f" and of {counted(len(gone) - 1, 'other run')}" if len(gone) > 1 else ""
        said.append(
            f"The model of {gone[0]}{more} is missing. No result depends on it; --repair makes the "
            "run again."
        )
    return [one for one in found if one.kind != "rewritten"], said


def check_undamaged(study: Path, damage: Sequence[Damage], tuned: str | None) -> None:
    """Refuse a study with damage in what is made once.

    Raises:
        InputError: naming it, and what to do.
    """
    blocking = [one for one in damage if one.kind in BLOCKING]
    if not blocking:
        return
    raise refusal(
        study,
        blocking,
        f"Give the same command with --repair{_with_tuning(study, blocking, tuned)}: what is "
        f"damaged is moved to {study / 'damaged'} and made again. Nothing is deleted.",
    )


def check_repairable(study: Path, damage: Sequence[Damage], tuned: str | None) -> None:
    """Refuse to repair what this call would not make again.

    Raises:
        InputError: it belongs to a tuning, which this call does not carry out.
    """
    others = _with_tuning(study, damage, tuned)
    if others:
        raise refusal(
            study,
            [one for one in damage if one.field and one.field != tuned],
            f"It is made again by the command that tuned, which needs{others} and --repair.",
        )


def set_aside(study: Path, damage: Sequence[Damage]) -> list[str]:
    """Move what is damaged out of the way, and return what is to be said. Of the study's own
    study.toml a copy is kept: without the file the folder would be no study."""
    for one in damage:
        inside = one.path.relative_to(study).as_posix()
        place = damaged_place(study, inside.removeprefix("runs/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        if one.kind == "question" and not one.field:
            shutil.copy2(one.path, place)
        else:
            one.path.replace(place)
    runs = sum(one.kind in ("run", "model") for one in damage)
    files = len(damage) - runs
    much = [counted(number, what) for number, what in ((runs, "run"), (files, "file")) if number]
    if not much:
        return []
    return [f"{listed(much)} moved to {study / 'damaged'}, to be made again."]


def rebuilt(study: Path, plan: Plan, damage: Sequence[Damage]) -> tuple[Plan, list[Search]]:
    """What a study asks, from what is asked now and from the runs that exist. What else was asked,
    stated or looked at is lost, and the rule says so.

    Raises:
        InputError: the runs are of another question.
    """
    arms: dict[str, RunConfig] = {}
    seeds = set(plan.seeds)
    seen: dict[str, set[int]] = {}
    for folder, record in _readable(study):
        config = RunConfig.from_dict(record["config"])
        arm = _named(config, plan)
        if run_folder(study, arm, config.seed) != folder:
            raise InputError(
                f"{folder} is of a study in which something else varies than what is asked "
                f"now ({listed(plan.varied)}). To write study.toml anew, give the command that "
                "made the study."
            )
        arms.setdefault(arm, replace(config, seed=0))
        seeds.add(config.seed)
        seen.setdefault(file_name(arm), set()).add(config.seed)
    known = {file_name(arm) for arm in (*plan.arms, *arms)}
    for one in damage:
        if one.kind == "run" and not one.field and one.path.parent.name in known:
            lost = {int(part) for part in one.path.name.split("-")[1:] if part.isdigit()}
            seeds |= lost
            seen.setdefault(one.path.parent.name, set()).update(lost)
    # In the order of the call, the others after its own.
    arms = {**{arm: plan.arms[arm] for arm in plan.arms}, **arms}
    searches = []
    for field in tuned_fields(study):
        with suppress(InputError):  # it is made again by the call that tunes
            tuned = read_tuning(study, field)
            searches += [] if tuned is None else [tuned.search]
    twins = [*_twins(study, tuple(arms)), *plan.twins]
    made = any(True for _ in study.glob(f"runs/*/*/{RECORD}"))  # else there was nothing to see
    known_plan = replace(
        plan,
        arms=arms,
        seeds=tuple(sorted(seeds)),
        fewer=_fewer(plan, arms, seen, sorted(seeds)),
        twins=tuple(dict.fromkeys(twins)),
        rule=replace(plan.rule, lost=date.today().isoformat() if made else ""),
    )
    return known_plan, searches


def _fewer(
    plan: Plan, arms: Iterable[str], seen: Mapping[str, set[int]], seeds: Sequence[int]
) -> dict[str, int]:
    """Where seeds are added until all is decided, an arm has those that it was run with, and those
    of the call at least."""
    if not plan.until_decided:
        return {}
    fewer = {}
    for arm in arms:
        last = max(seen.get(file_name(arm), set()), default=-1)
        count = max(len(plan.seeds), sum(seed <= last for seed in seeds))
        if count < len(seeds):
            fewer[arm] = count
    return fewer


def recorded_questions(study: Path, plan: Plan) -> list[dict[str, Any]]:
    """Of every run what its study asked, as far as the run knows it."""
    found: list[dict[str, Any]] = []
    for _, record in _readable(study):
        run = {k: v for k, v in record["config"].items() if k not in (*plan.varied, "seed")}
        data = {**record["data"]["config"], "fingerprint": record["data"]["fingerprint"]}
        question = {"data": data, "varied": list(plan.varied), "run": run}
        if question not in found:
            found.append(question)
    return found


def lost_arms(damage: Sequence[Damage], plan: Plan) -> list[str]:
    """A sentence for every arm of which it is no longer known what it was.

    Args:
        damage: of the study.
        plan: with the arms that are known.
    """
    known = {file_name(arm) for arm in plan.arms}
    names = dict.fromkeys(
        one.path.parent.name
        for one in damage
        if one.kind == "run" and not one.field and one.path.parent.name not in known
    )
    return [
        f"No run in runs/{name} can be read, so that arm is no longer known. To make it again, "
        "name it with --arms."
        for name in names
    ]


def _with_tuning(study: Path, damage: Sequence[Damage], tuned: str | None) -> str:
    """The options of the command that tuned, where this call is another."""
    fields = dict.fromkeys(one.field for one in damage if one.field and one.field != tuned)
    if not fields:
        return ""
    try:
        stated: Mapping[str, Any] = {
            one["field"]: one for one in read_question(study).get("tuning", ())
        }
    except InputError:
        stated = {}
    options = ""
    for field in fields:
        known = stated.get(field)
        grid = f"={','.join(known['values'])} --tune-seeds {len(known['seeds'])}" if known else ""
        options += f" --tune {field}{grid}"
    return options


def _readable(study: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The runs of a study whose record can be read."""
    for path in sorted(study.glob(f"runs/*/*/{RECORD}")):
        with suppress(InputError):
            yield path.parent, read_record(path.parent)


def _named(config: RunConfig, plan: Plan) -> str:
    """The name of an arm; see :func:`.plan.make_plan`."""
    point = [f"{name}={getattr(config, name)}" for name in plan.varied if name != "norm"]
    return ",".join([config.norm, *point])


def _twins(study: Path, arms: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = []
    for arm in arms:
        with suppress(InputError):  # what is asked now says so too
            found = read_same_function(study, arm)
            pairs += [] if found is None else [(found.reference, found.arm)]
    return pairs
