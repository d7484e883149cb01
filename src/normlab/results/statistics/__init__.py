"""What the runs of a study support: differences, intervals, verdicts, what more runs would tell.

``judge(results)`` compares every arm with the reference that was named before the runs.
"""

from .differences import Difference, paired_difference
from .images import ImageNoise, McNemar, image_noise, mcnemar
from .intervals import Interval, effective, simultaneous_level, t_interval
from .judgement import Judgement, PairedComparison, every_pair, judge
from .planning import (
    equivalence_power,
    seeds_for_equivalence,
    seeds_to_hold,
    seeds_to_see,
    spread_range,
    visible_difference,
)
from .verdict import Verdict, verdict

__all__ = [
    "Difference",
    "ImageNoise",
    "Interval",
    "Judgement",
    "McNemar",
    "PairedComparison",
    "Verdict",
    "effective",
    "equivalence_power",
    "every_pair",
    "image_noise",
    "judge",
    "mcnemar",
    "paired_difference",
    "seeds_for_equivalence",
    "seeds_to_hold",
    "seeds_to_see",
    "simultaneous_level",
    "spread_range",
    "t_interval",
    "verdict",
    "visible_difference",
]
