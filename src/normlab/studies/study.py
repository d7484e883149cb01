"""A study: what is asked, in which folder, and which of its runs are still to be made."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..data import DataConfig, DataSet
from ..data.levels import read_otherwise
from ..errors import InputError
from ..foreign import check_trusted, code_of, is_custom, named_in_a_file, not_found
from ..leftovers import holds_nothing
from ..options import check_names, fields_of
from ..places import STUDIES, dated
from ..runs import (
    COMPLETE,
    FIELDS,
    RECORD,
    SPLIT,
    STUDY,
    RunConfig,
    ended_record,
    is_run,
    is_same_run,
    is_study,
    is_superseded,
    read_record,
    run_folder,
    study_of,
    superseded_folder,
)
from ..runs.layout import DATA, same_function_file
from ..runs.rule import LEAST_SEEDS, Rule, pairs
from ..runs.study_file import (
    check_split_copy,
    keep_split,
    read_data,
    read_question,
    write_data,
    write_question,
)
from ..runs.tuning import Search
from ..seals import DamagedError, digest_of
from ..training import own_code, weights_of_run
from ..values import read_value, write_value
from .plan import Plan, check_reference, joined_seeds, torch_because
from .repair import (
    check_repairable,
    check_undamaged,
    found_damage,
    lost_arms,
    rebuilt,
    recorded_questions,
    set_aside,
)
from .repeat import commands

CODE = "the code"
"""What has changed where a layer or a network was edited."""


class Study:
    """A folder that contains one question and its runs.

    The question is the data and the fields that all arms share. The same question with more seeds
    or more arms is the same study; another question in the folder is refused.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        data: DataSet,
        call: str = "",
        findings: Sequence[Mapping[str, str]] = (),
        searches: Sequence[Search] = (),
        tuned_now: str | None = None,
        put_right: Sequence[str] = (),
    ) -> None:
        self.folder, self.plan, self.data, self.call = folder, plan, data, call
        self.put_right = tuple(put_right)
        self.findings, self.searches, self.tuned_now = findings, searches, tuned_now
        self._written = False
        # Read at once: a clean split is in the cache, which may be deleted at any time.
        split = data.config.split
        self._split = None if split is None else Path(split).read_bytes()
        # That of layers and networks is read at once, so that an edit meanwhile changes no run.
        self._code = {
            (config.norm, config.model): own_code(config) for config in plan.arms.values()
        }
        self._weights: dict[str | None, dict[str, str]] = {}
        for config in plan.arms.values():
            for seed in plan.seeds:  # of which a file may be missing
                self._code_of(replace(config, seed=seed))

    def _code_of(self, config: RunConfig) -> dict[str, str]:
        file = config.weights_file
        if file not in self._weights:
            self._weights[file] = weights_of_run(config)
        return {**self._code[config.norm, config.model], **self._weights[file]}

    def write(self) -> None:
        """Write data.json, a copy of the split file if there is one, and study.toml, which comes
        last: it says that the study is there."""
        write_data(self.folder, self.data_record())
        if self._split is not None:
            keep_split(self.folder, self._split)
        write_question(self.folder, self._described())

    def _described(self) -> dict[str, Any]:
        """What study.toml says: the question, how to repeat it, and the calls that built it."""
        question = _question(self.plan, self.data, self.searches)
        question["tuning"] = [self._scoped(entry) for entry in question["tuning"]]
        question["calls"] = self._calls()
        question["commands"] = commands(question, self.data.source, self.folder)
        return question

    def _calls(self) -> list[dict[str, Any]]:
        """Every call, with the runs there were before it, and the arms and seeds there are since.
        A call that is repeated in order to go on counts once."""
        there = read_question(self.folder) if is_study(self.folder) else {}
        calls = list(there.get("calls", ()))
        if not self.call:
            return calls
        fewest, most = self.plan.seed_counts
        now = {
            "command": self.call,
            "until_decided": self.plan.until_decided,
            "arms": len(self.plan.arms),
            "seeds": most,
            **({"fewest_seeds": fewest} if fewest < most else {}),
        }
        if self._written:
            calls[-1].pop("fewest_seeds", None)
            calls[-1] |= now  # a look has added seeds
        elif not calls or any(calls[-1].get(name) != value for name, value in now.items()):
            before = {"runs_before": _ended(there, self.folder)}
            made = {"date": date.today().isoformat(), "normlab": __version__}
            calls.append({**now, **before, **made})
        self._written = True
        return calls

    def _scoped(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What is tuned, with the arms and seeds that it was last tuned with."""
        if self.tuned_now == entry["field"]:
            return {
                **entry,
                "arms": list(self.plan.arms),
                "study_seeds": len(self.plan.seeds),
                "fewest_seeds": self.plan.seed_counts[0],
                "until_decided": self.plan.until_decided,
            }
        there = read_question(self.folder).get("tuning", ()) if is_study(self.folder) else ()
        known: Mapping[str, Any] = next(
            (one for one in there if one["field"] == entry["field"]), {}
        )
        kept = ("arms", "study_seeds", "fewest_seeds", "until_decided")
        return {**entry, **{name: known[name] for name in kept if name in known}}

    def data_record(self) -> dict[str, Any]:
        """What data.json says: the data set and the findings of its check."""
        return {**self.data.describe(), "findings": [dict(found) for found in self.findings]}

    def run_folder(self, arm: str, seed: int) -> Path:
        """Where a run is."""
        return run_folder(self.folder, arm, seed)

    def is_done(self, folder: Path, config: RunConfig) -> bool:
        """Whether the folder contains this run, and it has ended."""
        record = ended_record(folder)
        return record is not None and is_same_run(
            record, config, self.data.fingerprint, self._code_of(config)
        )

    def runs(self) -> list[tuple[str, RunConfig, Path]]:
        """All runs asked: arm, configuration, folder. Seeds turn slowest, so that a study that
        is stopped has whole seeds of all arms rather than all seeds of some."""
        return [
            (arm, self.plan.config(arm, seed), self.run_folder(arm, seed))
            for seed in self.plan.seeds
            for arm in self.plan.arms
            if seed in self.plan.seeds_of(arm)
        ]

    def pending(self) -> list[tuple[str, RunConfig, Path]]:
        """The runs that have not ended."""
        return [run for run in self.runs() if not self.is_done(run[2], run[1])]

    def superseded(self) -> list[tuple[str, RunConfig, Path]]:
        """The runs that would be made otherwise now: the code of their layer has changed, or what
        normlab makes of their settings."""
        return [
            (arm, config, folder)
            for arm, config, folder in self.pending()
            if is_run(folder)
            and is_superseded(
                read_record(folder), config, self.data.fingerprint, self._code_of(config)
            )
        ]

    def replaced(self) -> dict[str, tuple[str, ...]]:
        """Why there are superseded runs, as what has changed since they were made, to their arms:
        ``the code``, ``the weights that runs start from``, or ``what normlab makes of the
        settings``."""
        found: dict[str, dict[str, None]] = {}
        for arm, config, folder in self.superseded():
            before, now = read_record(folder).get("code") or {}, self._code_of(config)
            own = {**before, **now}.keys() - weights_of_run(config).keys()
            why = "what normlab makes of the settings"
            if any(before.get(name) != now.get(name) for name in own):
                why = CODE
            elif before != now:
                why = "the weights that runs start from"
            found.setdefault(why, {})[arm] = None
        return {why: tuple(arms) for why, arms in found.items()}

    def check_trust(self, named: Collection[str], *, tuned: bool = False) -> None:
        """Refuse to import layers of the folder's arms that the call does not name itself, unless
        the study is trusted. Arms whose runs have all ended are not imported. A trusted layer is
        not taken from the working folder either, unless it came from there.

        Args:
            named: normalizations and networks that the call names.
            tuned: whether a setting is tuned, which makes runs of all arms.

        Raises:
            InputError: naming the layer and the file that would be imported.
        """
        asked = {arm for arm, _, _ in self.pending()}
        asked |= {one for pair in self.plan.twins for one in pair}
        for arm, config in self.plan.arms.items():
            if not tuned and arm not in asked:
                continue
            kinds = (("layer", "origin", "arm"), ("network", "network_origin", "model"))
            for name, (kind, entry, option) in zip(config.named, kinds, strict=True):
                if name not in named and is_custom(name):
                    self._check_trust(arm, name, kind, entry, option)

    def _check_trust(self, arm: str, name: str, kind: str, entry: str, option: str) -> None:
        check_trusted(
            name, self.plan.trust, f"The study in {self.folder} has the arm {arm} with", kind
        )
        records = (self.run_folder(arm, seed) for seed in self.plan.seeds)
        known = [read_record(folder) for folder in records if is_run(folder)]
        origin = next((str(record[entry]) for record in known if record.get(entry)), "")
        with named_in_a_file({name: origin}):
            said, code = not_found(name.partition(":")[0]), code_of(name)
        if said or code != code_of(name):
            raise InputError(
                f"The study in {self.folder} has the {option} {arm if option == 'arm' else name}, "
                f"which you did not name.{said} Or name the {option} in "
                f"--{'arms' if option == 'arm' else option}."
            )

    def set_superseded_aside(self) -> None:
        """Move superseded runs out of the way, and the checks of their layers. They are kept, and
        no table has them."""
        found = self.superseded()
        for reference, arm in self.plan.twins:
            check = same_function_file(self.folder, arm)
            if {reference, arm} & {arm for arm, _, _ in found} and check.is_file():
                place = superseded_folder(self.folder, arm, 0, "").parent
                place.mkdir(parents=True, exist_ok=True)
                check.replace(place / "same-function.json")
        for arm, config, folder in found:
            known = str(read_record(folder)["identity"])
            place = superseded_folder(self.folder, arm, config.seed, known)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                shutil.rmtree(place)
            folder.rename(place)


def prepare_study(
    out: Path | None,
    plan: Plan,
    data: DataSet,
    call: str = "",
    findings: Sequence[Mapping[str, str]] = (),
    search: Search | None = None,
    *,
    repair: bool = False,
) -> Study:
    """Find out which folder a study belongs to; nothing is written before :meth:`Study.write`.

    Args:
        out: the folder; None takes the newest under ``studies/`` that holds this question, or
            names a dated one.
        plan: what is asked.
        data: the data set, loaded.
        call: the command or the call in Python, kept in study.toml.
        findings: of the check of the data, kept in data.json.
        search: what is tuned.
        repair: set aside what is damaged, instead of refusing the study. This is done at once.

    Raises:
        InputError: the folder contains another question, or something else; the reference is not
            an arm of the study; something of the study is damaged.
    """
    folder = out if out is not None else default_folder(plan, data)
    searches = [] if search is None else [search]
    put_right: list[str] = []
    _check_question_there(folder, repair=repair)
    plan = _computed_as_there(folder, plan)
    if is_study(folder):
        put_right = _put_right(folder, plan, data, search, repair=repair)
        there = read_question(folder)
        plan = _joined(there, _question(plan, data), plan, folder, data)
        searches = [*_other_searches(there, search), *searches]
    elif folder.exists() and not _is_free(folder, data):
        raise InputError(
            f"{folder} is not empty and does not contain a study. Choose another folder with --out."
        )
    check_reference(plan)
    tuned_now = None if search is None else search.field
    study = Study(folder, plan, data, call, findings, searches, tuned_now, put_right)
    if is_study(folder):
        there = read_question(folder)
        seen = tuple(
            arm
            for arm in study.replaced().get(CODE, ())
            if _judgeable_seeds(there, plan.rule, folder, arm) >= LEAST_SEEDS
        )
        rule = replace(plan.rule, edited=(*plan.rule.edited, *seen))
        study.plan = replace(plan, rule=rule)
    return study


def _computed_as_there(folder: Path, plan: Plan) -> Plan:
    """The plan with layers that are computed as in the study that is there, unless it is stated
    how they are: no run is made anew because a machine could have made it otherwise."""
    if "kernels" in plan.stated or not is_study(folder):
        return plan
    try:
        questions = [read_question(folder)]
    except InputError:
        questions = recorded_questions(folder, plan)
    for there in questions[:1]:
        kernels = there["run"].get("kernels", _default("kernels"))
        return next((one for one in (plan, *_otherwise(plan)) if one.kernels == kernels), plan)
    return plan


def _otherwise(plan: Plan) -> list[Plan]:
    """The same question with layers that are computed in the other way, if they can be."""
    if "kernels" in plan.stated:
        return []
    if plan.kernels == "compiled":
        return [plan.computed_by("torch", torch_because(""))]
    can = all(config.can_be_compiled for config in plan.arms.values())
    return [plan.computed_by("compiled")] if can else []


def _check_question_there(folder: Path, *, repair: bool) -> None:
    """Where there are runs and study.toml is gone, it is written anew like one that is damaged."""
    if is_study(folder) or not any(folder.glob(f"runs/*/*/{RECORD}")):
        return
    if not repair:
        raise InputError(
            f"{folder} contains runs, but no {STUDY}. Give the same command with --repair, which "
            f"writes {STUDY} anew from the call and from the runs."
        )
    (folder / STUDY).touch()


def _put_right(
    folder: Path, plan: Plan, data: DataSet, search: Search | None, *, repair: bool
) -> list[str]:
    """Refuse a study with damage, or set it aside; return what is to be said."""
    tuned = None if search is None else search.field
    damage, said = found_damage(folder)
    if not repair:
        check_undamaged(folder, damage, tuned)
        return said
    damage = [one for one in damage if one.kind != "model" or one.field in ("", tuned)]
    check_repairable(folder, damage, tuned)
    own = [one for one in damage if one.kind == "question" and not one.field]
    others = [one for one in damage if one not in own]
    if own:
        asked = _question(plan, data)
        for there in recorded_questions(folder, plan):
            differences = _differences(there, asked, data)
            if differences:
                raise InputError(
                    f"{folder / STUDY} is damaged, and the runs beside it differ from what is "
                    f"asked now in {'; '.join(differences)}. To write it anew, give the command "
                    "that made the study, with --repair."
                )
        known, searches = rebuilt(folder, plan, damage)
        said += [
            *lost_arms(damage, known),
            f"{folder / STUDY} is written anew from what is asked now and from the runs.",
        ]
        # First: once damaged runs are moved, nothing says any more that they were asked.
        set_aside(folder, own)
        question = {**_question(known, data, searches), "calls": []}
        write_question(folder, {**question, "commands": commands(question, data.source, folder)})
    return [*set_aside(folder, others), *said] or ["Nothing is damaged."]


def _is_free(folder: Path, data: DataSet) -> bool:
    """Whether a folder has nothing, or only what a study leaves that is stopped before its
    study.toml is written."""
    if not folder.is_dir():
        return False
    own = {DATA}
    split = data.config.split
    if split is not None and Path(split).is_file():
        with suppress(InputError):
            own |= {SPLIT} if digest_of(folder / SPLIT) == digest_of(Path(split)) else set()
    if holds_nothing(folder):
        return True
    with suppress(InputError):
        begun = read_data(folder).get("fingerprint") == data.fingerprint
        return begun and holds_nothing(folder, besides=own)
    return False


def recorded_data(run: Path, config: Mapping[str, Any]) -> DataConfig:
    """The data a run was made with, as its record tells.

    Where the split file has gone, the copy in the run's study stands in for it.
    """
    known = dict(config)
    if known.get("limit_per_class") is not None:
        # Before there was a choice, the limit was one on every split.
        known.setdefault("limit_all_splits", True)
    check_names(known, fields_of(DataConfig), f"a setting of data in {run / RECORD}")
    asked = DataConfig(**known)
    copy = study_of(run) / SPLIT
    if asked.split is not None and not Path(asked.split).is_file() and copy.is_file():
        if is_study(copy.parent):
            check_split_copy(copy.parent)
        return replace(asked, split=str(copy))
    return asked


def default_folder(plan: Plan, data: DataSet) -> Path:
    """The newest folder under ``studies/`` that holds this question, or a dated one. Where it is
    not stated how layers are computed, a study that computes them in the other way is the next
    best."""
    found = [_folder_there(one, data) for one in (plan, *_otherwise(plan))]
    return next(filter(None, found), _dated_folder(plan, data))


def _dated_folder(plan: Plan, data: DataSet) -> Path:
    settings = {k: v for k, v in plan.base.items() if v != _default(k)}
    question = {"what": plan.what, "settings": settings, "data": data.fingerprint}
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:6]
    return dated(STUDIES, plan.what, data.name, digest)


def _folder_there(plan: Plan, data: DataSet) -> Path | None:
    asked = _question(plan, data)
    undated = _dated_folder(plan, data).name[len(date.today().isoformat()) :]
    for path in sorted(STUDIES.glob(f"*/{STUDY}"), reverse=True):
        try:
            there = read_question(path.parent)
        except DamagedError:
            if path.parent.name.endswith(undated):
                return path.parent  # very likely this one, which is then refused or repaired
        except InputError:
            continue
        else:
            if there.get("what") == plan.what and not _differences(there, asked, data):
                return path.parent
    return None


def _other_searches(there: Mapping[str, Any], search: Search | None) -> list[Search]:
    """What else was tuned before."""
    return [
        Search(
            known["field"],
            read_value(known["shared"]),
            tuple(map(read_value, known["values"])),
            tuple(known["seeds"]),
        )
        for known in there.get("tuning", ())
        if search is None or known["field"] != search.field
    ]


def _described_search(search: Search) -> dict[str, Any]:
    """Values as text, since TOML has no null."""
    return {
        "field": search.field,
        "shared": write_value(search.shared),
        "values": [write_value(value) for value in search.values],
        "seeds": list(search.seeds),
    }


def _question(plan: Plan, data: DataSet, searches: Sequence[Search] = ()) -> dict[str, Any]:
    return {
        "what": plan.what,
        "title": plan.title,
        "normlab": __version__,
        "seeds": list(plan.seeds),
        **({"fewer_seeds": dict(plan.fewer)} if plan.fewer else {}),
        "varied": list(plan.varied),
        "same_function": [list(pair) for pair in plan.twins],
        "data": {**asdict(plan.data), "fingerprint": data.fingerprint},
        "run": plan.base,
        "arms": dict(plan.points),
        "verdict": plan.rule.describe(),
        "tuning": [_described_search(search) for search in searches],
    }


def _default(name: str) -> Any:
    """A setting's default, as study.toml has it."""
    value = FIELDS[name].default
    return list(value) if isinstance(value, tuple) else value


def _differences(there: dict[str, Any], asked: dict[str, Any], data: DataSet) -> list[str]:
    """How a question differs from another; nothing where both can share a folder."""
    differences = []
    if there["data"]["fingerprint"] != asked["data"]["fingerprint"]:
        differences.append(f"the data ({_data_differences(there['data'], asked['data'], data)})")
    if there["varied"] != asked["varied"]:
        differences.append(
            f"what varies ({', '.join(there['varied'])} there, {', '.join(asked['varied'])} asked)"
        )
    for name in sorted({*there["run"], *asked["run"]} - {*there["varied"], *asked["varied"]}):
        # A setting that a study does not mention is younger than it, and had its default.
        old, new = (stated["run"].get(name, _default(name)) for stated in (there, asked))
        if name == "weights" and old and new:
            continue  # weights count by what they are, run by run
        if old != new:
            old, new = ("not given" if value is None else value for value in (old, new))
            differences.append(f"{name} ({old} there, {new} asked)")
    return differences


def _data_differences(there: Mapping[str, Any], asked: Mapping[str, Any], data: DataSet) -> str:
    """How data differs: the settings with their values, and what has changed since."""
    limited = there.get("limit_per_class") is not None
    earlier = {"limit_all_splits": limited and "limit_all_splits" not in there, **there}
    said = []
    for field in fields(DataConfig):
        old, new = (stated.get(field.name, field.default) for stated in (earlier, asked))
        if old != new:
            old, new = ("not given" if value is None else value for value in (old, new))
            said.append(f"{field.name}: {old} there, {new} asked")
    if not said:
        said.append(f"the settings are the same, but not the images, labels or splits of "
                    f"{asked['source']}")  # fmt: skip
    return "; ".join([*said, *_earlier_rules(there, asked, data)])


def _earlier_rules(there: Mapping[str, Any], asked: Mapping[str, Any], data: DataSet) -> list[str]:
    """What has changed, and matters to this data, since a study whose record does not know
    today's settings of data."""
    if "limit_all_splits" in there:
        return []
    said = []
    if there.get("limit_per_class") is not None and not asked.get("limit_all_splits"):
        said.append("limit_per_class limited val and test too, which --limit-all-splits still does")
    digests = np.concatenate([split.digests for split in data.splits.values()])
    copies = len(np.unique(digests)) < len(digests)
    drawn = there.get("split") is None and set(data.split_policy.values()) != {"as found"}
    if drawn and (copies or data.limit_per_class is not None):
        said.append(
            "a split that was drawn could separate copies of an image, which now stay together"
        )
    if read_otherwise(data.levels):
        said.append(
            "grey values of more than 8 bits were read with another range, which made other pixels"
        )
    return [f"when that study was made, {one}" for one in said]


def _joined(
    there: dict[str, Any], asked: dict[str, Any], plan: Plan, folder: Path, data: DataSet
) -> Plan:
    """The plan with the arms and seeds that the folder already has; refuse another question."""
    _check_same_question(_differences(there, asked, data), folder)
    shared = dict(there["run"])
    if shared.get("weights"):  # which may have another place now
        shared["weights"] = next(iter(plan.arms.values())).weights
    arms = {arm: RunConfig.from_dict({**shared, **fields}) for arm, fields in there["arms"].items()}
    seeds, fewer = joined_seeds(there, plan)
    asked_before = [(one, two) for one, two in there.get("same_function", [])]
    twins = tuple(dict.fromkeys([*asked_before, *plan.twins]))
    rule = _joined_rule(there, plan, folder, seeds)
    return replace(
        plan, arms={**arms, **plan.arms}, seeds=seeds, fewer=fewer, twins=twins, rule=rule
    )


def _check_same_question(differences: Sequence[str], folder: Path) -> None:
    if differences:
        raise InputError(
            f"{folder} contains another question: it differs in {'; '.join(differences)}. "
            "Choose another folder with --out."
        )


def _joined_rule(there: dict[str, Any], plan: Plan, folder: Path, seeds: tuple[int, ...]) -> Rule:
    """The rule that the folder states, with what was asked now; what was changed or looked at
    after runs had ended is kept for the report to say."""
    old, asked = Rule.read(there), plan.rule
    if "looks" in plan.stated and old.looks and old.looks != asked.looks:
        raise InputError(
            f"The looks of {folder} are fixed at {_listed(old.looks)} seeds and cannot become "
            f"{_listed(asked.looks)}. Omit --seeds, or choose another folder with --out."
        )
    new = replace(
        old,
        reference=asked.reference if "reference" in plan.stated else old.reference,
        margin=asked.margin if "margin" in plan.stated else old.margin,
        target=asked.target if "target" in plan.stated else old.target,
        looks=old.looks or asked.looks,
    )
    ended = _ended(there, folder)
    if new.target != old.target and ended:
        earlier = {} if old.target is None else {"target": round(100 * old.target, 10)}
        new = replace(new, retargeted=(*old.retargeted, {**earlier, "runs": ended}))
    if (new.reference, new.margin) != (old.reference, old.margin) and ended:
        stated = {"reference": old.reference, "margin": round(100 * old.margin, 10)}
        new = replace(new, before=(*old.before, {**stated, "runs": ended}))
    seen = _judgeable_seeds(there, old, folder)
    if seen < LEAST_SEEDS:
        return new  # nothing could be judged, so nothing was chosen by what it gave
    if not old.looks and (new.looks or len(seeds) > len(there["seeds"])):
        return replace(new, looked=(*old.looked, seen))
    if not set(plan.arms) <= set(there["arms"]):
        return replace(new, grown=(*old.grown, len(there["arms"])))
    return new


def _ended(there: Mapping[str, Any], folder: Path) -> int:
    """How many runs of a study have ended."""
    return sum(
        ended_record(run_folder(folder, arm, seed)) is not None
        for arm in there.get("arms", ())
        for seed in there["seeds"]
    )


def _judgeable_seeds(
    there: Mapping[str, Any], rule: Rule, folder: Path, only: str | None = None
) -> int:
    """The largest number of seeds that an arm shares with its reference, both complete: with how
    many the study could be judged, whether or not all of its runs are there. ``only``: in the
    comparisons of this arm."""

    def complete(arm: str) -> set[int]:
        records = {seed: ended_record(run_folder(folder, arm, seed)) for seed in there["seeds"]}
        return {seed for seed, found in records.items() if found and found["status"] == COMPLETE}

    of_arm = {arm: complete(arm) for arm in there["arms"]}
    return max(
        (
            len(of_arm[one] & of_arm[two])
            for one, two in pairs(there["arms"], rule.reference)
            if only in (None, one, two)
        ),
        default=0,
    )


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last
