"""A study's folder: what was asked, and which runs it holds."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import tomli_w

from .. import __version__
from ..data import DataConfig, DataSet
from ..errors import InputError
from ..files import write_bytes, write_json, write_text
from ..training import RunConfig
from .plan import Plan, check_reference
from .rule import Rule

FORMAT = "normlab study 1"
SPLIT = "split.json"


class Study:
    """A folder that holds one question and its runs.

    The question is the data and the fields that all arms share. The same question with more seeds
    or more arms is the same study; another question in the folder is refused.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        data: DataSet,
        command: str,
        findings: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.folder, self.plan, self.data, self.command = folder, plan, data, command
        self.findings = findings

    def write(self) -> None:
        """Write study.toml, data.json, and a copy of the split file if there is one."""
        asked = _as_toml(self.plan, self.data, self.command)
        write_text(self.folder / "study.toml", tomli_w.dumps(asked))
        write_json(self.folder / "data.json", self.data_record())
        split = self.data.config.split
        if split is not None and Path(split) != (self.folder / SPLIT).resolve():
            write_bytes(self.folder / SPLIT, Path(split).read_bytes())

    def data_record(self) -> dict[str, Any]:
        """What data.json says: the data set and the findings of its check."""
        return {**self.data.describe(), "findings": [dict(found) for found in self.findings]}

    def run_folder(self, arm: str, seed: int) -> Path:
        """Where a run lives."""
        return run_folder(self.folder, arm, seed)

    def ended(self, arm: str, seed: int) -> str | None:
        """The identity of a run that has ended, None for one that has not."""
        return _ended_identity(self.run_folder(arm, seed))

    def runs(self) -> list[tuple[str, RunConfig, Path]]:
        """All runs asked: arm, configuration, folder. Seeds turn slowest, so that a study that
        is stopped has whole seeds of all arms rather than all seeds of some."""
        return [
            (arm, self.plan.config(arm, seed), self.run_folder(arm, seed))
            for seed in self.plan.seeds
            for arm in self.plan.arms
        ]

    def pending(self) -> list[tuple[str, RunConfig, Path]]:
        """The runs that have not ended."""
        return [
            (arm, config, folder)
            for arm, config, folder in self.runs()
            if _ended_identity(folder) != config.identity(self.data.fingerprint)
        ]


def run_folder(study: Path, arm: str, seed: int) -> Path:
    """The folder of a run. A colon in an arm's name becomes a comma, for the sake of file
    systems and of tools that read host:path."""
    return study / "runs" / arm.replace(":", ",") / f"seed-{seed}"


def prepare_study(
    out: Path | None,
    plan: Plan,
    data: DataSet,
    command: str,
    findings: Sequence[Mapping[str, str]] = (),
) -> Study:
    """Find out which folder a study belongs to; nothing is written before :meth:`Study.write`.

    Args:
        out: the folder; None takes the newest under ``studies/`` that holds this question, or
            names a dated one.
        plan: what is asked.
        data: the data set, loaded.
        command: how to repeat it, kept in study.toml.
        findings: of the check of the data, kept in data.json.

    Raises:
        InputError: the folder holds another question, or something else; the reference is no arm
            of the study.
    """
    folder = out if out is not None else _default_folder(plan, data)
    path = folder / "study.toml"
    if path.exists():
        plan = _joined(_read(path), _as_toml(plan, data, command), plan, folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is not empty and holds no study; choose another folder with --out"
        )
    check_reference(plan)
    return Study(folder, plan, data, command, findings)


def recorded_data(run: Path, config: Mapping[str, Any]) -> DataConfig:
    """The data a run was made with, as its record tells.

    Where the split file has gone, the copy in the run's study stands in for it.
    """
    asked = DataConfig(**config)
    copy = run.absolute().parent.parent.parent / SPLIT
    if asked.split is not None and not Path(asked.split).is_file() and copy.is_file():
        return replace(asked, split=str(copy))
    return asked


def read_question(folder: Path) -> dict[str, Any]:
    """What study.toml says.

    Raises:
        InputError: there is no study in the folder.
    """
    if not (folder / "study.toml").is_file():
        raise InputError(f"{folder} holds no study (no study.toml)")
    return _read(folder / "study.toml")


def _default_folder(plan: Plan, data: DataSet) -> Path:
    question = {"what": plan.what, "base": plan.base, "data": data.fingerprint}
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:6]
    studies = Path("studies")
    known = sorted(studies.glob(f"*-{digest}/study.toml"))
    if known:
        return known[-1].parent
    return studies / f"{date.today().isoformat()}-{plan.what}-{data.name}-{digest}"


def _as_toml(plan: Plan, data: DataSet, command: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "what": plan.what,
        "title": plan.title,
        "command": command,
        "normlab": __version__,
        "seeds": list(plan.seeds),
        "varied": list(plan.varied),
        "same_function": [list(pair) for pair in plan.twins],
        "data": {**_without_none(asdict(plan.data)), "fingerprint": data.fingerprint},
        "run": _without_none(plan.base),
        "arms": {arm: _without_none(fields) for arm, fields in plan.points.items()},
        "verdict": plan.rule.describe(),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if content.get("format") != FORMAT:
        raise InputError(f"{path} is not of the format {FORMAT!r}")
    return content


def _joined(there: dict[str, Any], asked: dict[str, Any], plan: Plan, folder: Path) -> Plan:
    """The plan with the arms and seeds that the folder already has; refuse another question."""
    differences = []
    if there["data"]["fingerprint"] != asked["data"]["fingerprint"]:
        differences.append(
            f"the data ({there['data']['source']} there, {asked['data']['source']} asked; "
            "or its images, size, limit or split differ)"
        )
    if there["varied"] != asked["varied"]:
        differences.append(
            f"what varies ({', '.join(there['varied'])} there, {', '.join(asked['varied'])} asked)"
        )
    for name in sorted({*there["run"], *asked["run"]} - {*there["varied"], *asked["varied"]}):
        old, new = there["run"].get(name), asked["run"].get(name)
        if old != new:
            differences.append(f"{name} ({old} there, {new} asked)")
    if differences:
        raise InputError(
            f"{folder} holds another question: it differs in {'; '.join(differences)}. "
            "Choose another folder with --out"
        )
    arms = {
        arm: RunConfig.from_dict({**there["run"], **fields})
        for arm, fields in there["arms"].items()
    }
    seeds = tuple(sorted({*there["seeds"], *plan.seeds}))
    asked_before = [(one, two) for one, two in there.get("same_function", [])]
    twins = tuple(dict.fromkeys([*asked_before, *plan.twins]))
    rule = _joined_rule(there, plan, folder, seeds)
    return replace(plan, arms={**arms, **plan.arms}, seeds=seeds, twins=twins, rule=rule)


def _joined_rule(there: dict[str, Any], plan: Plan, folder: Path, seeds: tuple[int, ...]) -> Rule:
    """The rule that the folder states, with what was asked anew; what was changed or looked at
    after runs had ended is kept for the report to say."""
    old, asked = Rule.read(there), plan.rule
    if "looks" in plan.stated and old.looks and old.looks != asked.looks:
        raise InputError(
            f"{folder} is looked at with {_listed(old.looks)} seeds, fixed before its runs; it "
            f"cannot be looked at with {_listed(asked.looks)} afterwards. Leave --seeds away, or "
            "choose another folder with --out"
        )
    new = replace(
        old,
        reference=asked.reference if "reference" in plan.stated else old.reference,
        margin=asked.margin if "margin" in plan.stated else old.margin,
        looks=old.looks or asked.looks,
    )
    ended = [
        _ended_identity(run_folder(folder, arm, seed)) is not None
        for arm in there["arms"]
        for seed in there["seeds"]
    ]
    if (new.reference, new.margin) != (old.reference, old.margin) and any(ended):
        stated = {"reference": old.reference, "margin": round(100 * old.margin, 10)}
        new = replace(new, before=(*old.before, {**stated, "runs": sum(ended)}))
    if not new.looks and len(seeds) > len(there["seeds"]) > 1 and all(ended):
        new = replace(new, looked=(*old.looked, len(there["seeds"])))
    return new


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _ended_identity(folder: Path) -> str | None:
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if record.get("status") == "interrupted" else record.get("identity")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: a field left out is None."""
    return {k: v for k, v in values.items() if v is not None}
