"""The sections of the report, in the order of the page."""

from __future__ import annotations

from ..section import Section
from .accuracy import AccuracySection
from .answer import AnswerSection
from .classes import ClassesSection
from .comparisons import ComparisonsSection
from .cost import CostSection
from .curves import CurvesSection
from .data_check import DataCheckSection
from .limits import LimitsSection
from .listing import ListingSection
from .percentiles import PercentilesSection
from .provenance import ProvenanceSection
from .repeat import RepeatSection
from .sanity import SanitySection
from .scores import ScoresSection
from .settings import SettingsSection
from .start import StartSection
from .target import TargetSection
from .tuned import TunedSection

SECTIONS: tuple[Section, ...] = (
    AnswerSection(),
    AccuracySection(),
    DataCheckSection(),
    ScoresSection(),
    ComparisonsSection(),
    SettingsSection(),
    TunedSection(),
    SanitySection(),
    StartSection(),
    CurvesSection(),
    TargetSection(),
    PercentilesSection(),
    ClassesSection(),
    CostSection(),
    ProvenanceSection(),
    RepeatSection(),
    LimitsSection(),
    ListingSection(),
)

__all__ = ["SECTIONS"]
