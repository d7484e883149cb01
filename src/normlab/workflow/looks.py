"""Making the runs of a study, where looks are fixed look by look until all is decided.

An arm gets more seeds only while a comparison of its own is open: its own with the reference, or
that of an arm whose reference it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..data import DataSet
from ..errors import InputError
from ..pages.words import counted, shortened
from ..results import read_results
from ..results.statistics import Judgement, judge
from ..runs import is_study
from ..runs.rule import pairs
from ..studies import Plan, Study, StudyCluster, carry_out, check_room
from ..training import Keeping
from .watching import Watcher


def run_until_decided(
    study: Study,
    compared: Sequence[tuple[str, str]] | None,
    dataset: DataSet,
    workers: int,
    watcher: Watcher | None,
    keeping: Keeping,
    cluster: StudyCluster | None,
) -> int:
    """Make the runs that are missing; where looks are fixed, go on with the arms of which a
    comparison is not settled. Which they are follows from the runs alone, so a study that was
    stopped anywhere goes on with the same ones.

    Raises:
        InputError: runs could not be made, or the disk has no room for those of the next look.
    """
    made = carry_out(study, dataset, workers, watcher, keeping=keeping, cluster=cluster)
    while study.plan.until_decided:
        found = judge(read_results(study.folder), compared=compared, images=False)
        further = study.plan.with_seeds(found.wanted)
        ends = further.seed_counts == study.plan.seed_counts and further.fewer == study.plan.fewer
        if watcher:
            watcher.stage(_said(found, study.plan, further))
        if ends:
            break
        study.plan = further
        missing = [config for _, config, _ in study.pending()]
        check_room(study.folder, missing, dataset, min(workers, len(missing)))
        study.write()
        made += carry_out(study, dataset, workers, watcher, keeping=keeping, cluster=cluster)
    return made


def most_added(study: Study) -> int:
    """How many runs the looks of a call may add: those of every arm with a comparison that is not
    settled, as far as there are runs to tell."""
    plan = study.plan
    if not plan.until_decided:
        return 0
    left = {arm: max(0, plan.rule.looks[-1] - len(plan.seeds_of(arm))) for arm in plan.arms}
    if is_study(study.folder) and not study.superseded():
        try:
            results = read_results(study.folder)
        except InputError:
            return sum(left.values())  # no run has ended
        compared = pairs(plan.points, plan.rule.reference)
        wanted = judge(results, plan.rule, compared=compared, images=False).wanted
        return sum(left[arm] for arm in wanted)
    return sum(left.values())


def _said(found: Judgement, before: Plan, after: Plan) -> str:
    """How far the study is, and which arms go on."""
    settled = sum(comparison.settled for comparison in found.comparisons)
    said = (
        f"{counted(len(found.seeds) or before.seed_counts[1], 'seed')}: {settled} of "
        f"{counted(len(found.comparisons), 'comparison')} decided"
    )
    more = {
        arm: len(after.seeds_of(arm))
        for arm in after.arms
        if len(after.seeds_of(arm)) > len(before.seeds_of(arm))
    }
    if more:
        whole = len(more) == len(after.arms)
        who = "all arms go" if whole else f"{shortened(more)} {'go' if len(more) > 1 else 'goes'}"
        return f"{said}; {who} on with {counted(max(more.values()), 'seed')}"
    return said if found.settled else f"{said}; this was the last look"
