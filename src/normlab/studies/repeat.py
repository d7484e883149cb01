"""The commands that reproduce a whole study in a fresh folder, whatever calls built it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.config import DataConfig
from ..errors import InputError
from ..foreign import is_custom
from ..options import fields_of
from ..runs import FIELDS, SPLIT
from ..runs.rule import Rule, default_reference, pairs
from ..runs.study_file import asked_seeds
from .plan import read_stated
from .request import OF_THE_MACHINE, SETTINGS, Request, presets

OUT = "repeated"
"""The fresh folder."""
SANITY = "sanity"
Point = tuple[tuple[str, Any], ...]
"""An arm's values of what varies, its layer left out."""


def commands(question: Mapping[str, Any], source: str, folder: Path) -> list[str]:
    """The commands, to be called one after the other.

    Arms that make up a full grid need one command; others need one for each part that does.

    Args:
        question: what study.toml says.
        source: where the data is.
        folder: of the study, which has a copy of the split file.
    """
    shared = _shared(question, source, folder)
    by_looks = bool(Rule.read(question).looks)
    # What looks decided, and what other calls have added since: arms, and seeds for all of them.
    looked_at = _looked_at(question)
    whole = _requests(looked_at, shared)
    seeds = min(len(asked_seeds(question, arm)) for arm in question["arms"])
    plain = [
        _with(request, {"until_decided": False, "seeds": seeds})
        for request in _requests(question, shared)
    ]
    # In the order in which a study grows: what looks decide, what was tuned then, and the rest.
    written: list[Request] = []
    covered = False
    for search in question.get("tuning", ()):
        tuned = {
            "tune": f"{search['field']}={','.join(search['values'])}",
            "tune_seeds": len(search["seeds"]),
        }
        part = {**question, **_tuned_with(question, search)}
        *before, last = _requests(part, shared)
        if by_looks and not search.get("until_decided", True):
            written += [*before, last] if not written else []
            fewest = search.get("fewest_seeds", len(part["seeds"]))
            tuned |= {"until_decided": False, "seeds": fewest}
            before = []
        written += [*before, _with(last, tuned)]
        covered = covered or (part["arms"], part["seeds"]) == (question["arms"], question["seeds"])
    if not covered:
        written += whole
    if by_looks and not all(call.get("until_decided", True) for call in question.get("calls", ())):
        written += plain if looked_at["arms"] != question["arms"] else plain[-1:]
    once = {request.command(OUT): request for request in written}
    return [request.command(OUT) for request in _trusting(list(once.values()))]


def _looked_at(question: Mapping[str, Any]) -> Mapping[str, Any]:
    """The question with the arms that there were when seeds were last added until all was
    decided."""
    asked = [call for call in question.get("calls", ()) if call.get("until_decided", True)]
    arms = question["arms"]
    count = asked[-1].get("arms", len(arms)) if asked else len(arms)
    part = dict(list(arms.items())[:count])
    with suppress(InputError):
        pairs(part, Rule.read(question).reference)
        return {**question, "arms": part}
    return question  # what they are compared with has joined since


def _trusting(requests: Sequence[Request]) -> Iterator[Request]:
    """A command that joins arms of earlier ones has their layers from the study's folder, and not
    from whoever types it."""
    before: set[str] = set()
    for request in requests:
        own = set(request.arms or ())
        joined = any(is_custom(norm) for norm in before - own)
        yield _with(request, {"trust": True}) if joined else request
        before |= own


def _requests(question: Mapping[str, Any], shared: Mapping[str, Any]) -> list[Request]:
    blocks = _blocks(question)
    return [
        _request(question, block, shared, first=index == 0, alone=len(blocks) == 1)
        for index, block in enumerate(blocks)
    ]


def _tuned_with(question: Mapping[str, Any], search: Mapping[str, Any]) -> dict[str, Any]:
    """The arms and seeds that there were when a setting was tuned; all where that is not known."""
    arms = search.get("arms", list(question["arms"]))
    return {
        "arms": {arm: fields for arm, fields in question["arms"].items() if arm in arms},
        "seeds": question["seeds"][: search.get("study_seeds", len(question["seeds"]))],
    }


def _blocks(question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arms as full grids: layers, and the values of what else varies; the reference's first."""
    points: dict[str, list[Point]] = {}
    for arm, fields in question["arms"].items():
        point = tuple((k, _hashable(v)) for k, v in _varied(question, fields).items())
        points.setdefault(str(fields.get("norm", arm)), []).append(point)
    grids: dict[tuple[Point, ...], list[str]] = {}
    for norm, own in points.items():
        for part in [tuple(own)] if _is_grid(own) else [(point,) for point in own]:
            grids.setdefault(part, []).append(norm)
    reference = Rule.read(question).reference
    made = [{"norms": norms, "axes": _axes(part)} for part, norms in grids.items()]
    return sorted(made, key=lambda block: not any(reference.startswith(n) for n in block["norms"]))


def _varied(question: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: fields.get(k) for k in question.get("varied", ()) if k != "norm"}


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _axes(points: Sequence[Point]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point:
            if value not in axes.setdefault(name, []):
                axes[name].append(value)
    return axes


def _is_grid(points: Sequence[Point]) -> bool:
    size = 1
    for values in _axes(points).values():
        size *= len(values)
    return size == len(set(points)) == len(points)


def _shared(question: Mapping[str, Any], source: str, folder: Path) -> dict[str, Any]:
    """The data that was asked for."""
    asked = {
        name: question["data"].get(name)
        for name, f in fields_of(DataConfig).items()
        if question["data"].get(name, f.default) != f.default
    }
    if asked.get("split") is not None:
        asked["split"] = str((folder / SPLIT).absolute())
    return {**asked, "source": source}


def _request(
    question: Mapping[str, Any],
    block: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    first: bool,
    alone: bool,
) -> Request:
    twins = question.get("same_function")
    what = str(question["what"])
    if what not in presets() or bool(twins) != (what == SANITY):
        what = SANITY if twins else "norms"
    stated = read_stated(what)
    rule = Rule.read(question)
    run = {
        name: question["run"].get(name, _default(name))
        for name in SETTINGS
        if name not in question.get("varied", ())
    }
    settings = {
        name: value
        for name, value in run.items()
        if value != stated.get("run", {}).get(name, _default(name))
    }
    settings |= {name: question["run"].get(name, _default(name)) for name in OF_THE_MACHINE}
    asked: dict[str, Any] = {
        "arms": tuple(block["norms"]),
        "seeds": rule.looks[-1] if rule.looks else len(question["seeds"]),
        "until_decided": bool(rule.looks),
    }
    if question["title"] != stated["title"]:
        asked["title"] = question["title"]
    if first and (not alone or rule.reference != default_reference(question["arms"])):
        asked["reference"] = rule.reference
    if rule.margin != Rule("").margin:
        asked["margin"] = round(100 * rule.margin, 10)
    if rule.target is not None:
        asked["target"] = round(100 * rule.target, 10)
    return Request(what=what, **asked, data=dict(data), settings={**settings, **block["axes"]})


def _default(name: str) -> Any:
    value = FIELDS[name].default
    return list(value) if isinstance(value, tuple) else value


def _with(request: Request, more: Mapping[str, Any]) -> Request:
    return replace(request, **more)
