"""What the runs of a study support: differences, intervals, verdicts, what more runs would tell.

``judge(results)`` compares every arm with the reference that was named before the runs.
"""

from ..rule import LOOKS, Rule, Verdict, default_reference, pairs, verdict
from .differences import Difference, paired_difference
from .images import ImageNoise, McNemar, image_noise, mcnemar
from .intervals import Interval, simultaneous_level, t_interval
from .judgement import Judgement, PairedComparison, every_pair, judge
from .planning import (
    equivalence_power,
    seeds_for_equivalence,
    seeds_to_see,
    spread_range,
    visible_difference,
)

__all__ = [
    "LOOKS",
    "PairedComparison",
    "Difference",
    "ImageNoise",
    "Interval",
    "Judgement",
    "McNemar",
    "Rule",
    "Verdict",
    "default_reference",
    "equivalence_power",
    "every_pair",
    "image_noise",
    "judge",
    "mcnemar",
    "paired_difference",
    "pairs",
    "seeds_for_equivalence",
    "seeds_to_see",
    "simultaneous_level",
    "spread_range",
    "t_interval",
    "verdict",
    "visible_difference",
]
