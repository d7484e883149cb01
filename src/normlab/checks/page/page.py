"""The page of the data check, one file that needs nothing else.

It knows no check: each brings its sections, style, script and words (:class:`..protocol.PagePart`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ... import __version__, pages
from ...pages.findings import Finding, Level, troubles, worst
from ...pages.images import SMALL
from ...pages.words import counted, percent, shortened
from ...splits import SPLIT_WORDS, SPLITS
from ..check import DataCheck, versions
from ..image_set import ImageSet
from ..protocol import PagePart, Section

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_OPTION = re.compile(r"--[a-z][\w-]*")


def render(check: DataCheck, *, more: Sequence[PagePart] = (), command: str) -> str:
    """index.html. However large the source, the number of pictures is bounded.

    Args:
        check: what was found.
        more: parts that follow those of the checks.
        command: how to repeat the check.
    """
    from markupsafe import Markup

    parts = (*check.parts, *more)
    sections = [section for part in parts for section in part.sections]
    findings = check.findings()
    data = check.image_set.data
    return _environment(__package__).get_template("page.html.j2").render(
        version=__version__,
        name=data.name,
        facts=_facts(check.image_set),
        verdict=_verdict(findings, part=bool(check.scope)),
        scope=check.scope,
        level=worst(findings).name.lower(),
        troubles=[_finding(finding, sections) for finding in troubles(findings)],
        fine=[_finding(found, sections) for found in findings if found.level is Level.FINE],
        small=data.image_size <= SMALL,
        sections=[
            (section.anchor, section.title, _body(part, section))
            for part in parts
            for section in part.sections
        ],
        method=[said for part in parts for said in part.method],
        limits=[limit for part in parts for limit in part.limits],
        method_facts=_method_facts(check, parts),
        command=_unbroken(command),
        tables=[table for part in parts for table in part.tables],
        css=Markup("").join(
            [
                pages.style(__package__, "page.css"),
                *(pages.inline(part.package, part.style) for part in parts if part.style),
            ]
        ),
        script=Markup("").join(
            [
                *(pages.inline(part.package, part.script) for part in parts if part.script),
                pages.inline(__package__, "page.js"),
            ]
        ),
    )  # fmt: skip


def _environment(package: str) -> Environment:
    """Templates of a package, and what all parts share as ``page/macros.html.j2``."""
    import jinja2

    made = pages.environment(package)
    shared = pages.environment(__package__).loader
    assert made.loader is not None
    assert shared is not None
    made.loader = jinja2.ChoiceLoader([jinja2.PrefixLoader({"page": shared}), made.loader])
    made.filters["percent"] = percent
    return made


def _body(part: PagePart, section: Section) -> Markup:
    """What a section says below its heading."""
    from markupsafe import Markup

    template = _environment(part.package).get_template(section.template)
    return Markup(template.render(section.context))


def _facts(image_set: ImageSet) -> list[tuple[str, str]]:
    data = image_set.data
    counts = np.bincount(image_set.split, minlength=len(SPLITS)).tolist()
    channels = "grey" if data.channels == 1 else "colour"
    facts = [
        ("Images", f"{len(image_set):,}"),
        ("Classes", f"{len(image_set.classes):,}"),
        *(
            (SPLIT_WORDS[name].capitalize(), f"{count:,}")
            for name, count in zip(SPLITS, counts, strict=True)
        ),
        ("Checked at", f"{data.image_size} × {data.image_size} pixels, {channels}"),
    ]
    if image_set.drawn:
        drawn = shortened(SPLIT_WORDS[name] for name in image_set.drawn)
        facts.append(("Splits drawn, not in the source", drawn))
    return facts


def _verdict(findings: Sequence[Finding], part: bool) -> str:
    levels = Counter(finding.level for finding in findings)
    invalid, look = levels[Level.INVALID], levels[Level.LOOK]
    if invalid:
        verb = "invalidates" if invalid == 1 else "invalidate"
        more = f", and {look} more {_deserve(look)} a look" if look else ""
        return (
            "Accuracies measured on these splits do not mean what they seem to: "
            f"{counted(invalid, 'finding')} {verb} them{more}."
        )
    if look:
        return (
            "Nothing found here invalidates your numbers; "
            f"{counted(look, 'finding')} {_deserve(look)} a look."
        )
    return f"{'What was checked shows' if part else 'The check found'} no problem."


def _unbroken(text: str) -> Markup:
    """Text whose percentages and command-line options are never split between two lines."""
    from markupsafe import Markup, escape

    joined = str(escape(text)).replace(" %", "\N{NO-BREAK SPACE}%")
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', joined))


def _deserve(count: int) -> str:
    return "deserves" if count == 1 else "deserve"


def _finding(finding: Finding, sections: Sequence[Section]) -> dict[str, object]:
    return {
        "level": finding.level.name.lower(),
        "words": str(finding.level),
        "sentence": _unbroken(finding.sentence),
        "advice": _unbroken(finding.advice),
        "section": next(
            (section for section in sections if finding.check in section.explains), None
        ),
    }


def _method_facts(check: DataCheck, parts: Sequence[PagePart]) -> list[tuple[str, str]]:
    data = check.image_set.data
    return [
        ("Source", data.source),
        ("Fingerprint", data.fingerprint),
        ("Resizing", data.resize_rule.format(size=data.image_size)),
        *(
            (f"{SPLIT_WORDS[name].capitalize()} split", _policy(data.split_policy.get(name)))
            for name in SPLITS
        ),
        *([("Seed of drawn splits", str(data.split_seed))] if check.image_set.drawn else []),
        *(fact for part in parts for fact in part.facts),
        *(
            (f"Time, {name}", f"{seconds:.1f} s" if seconds >= 0.05 else "below 0.1 s")
            for name, seconds in check.seconds.items()
        ),
        *versions().items(),
    ]


def _policy(said: str | None) -> str:
    """How a split came about."""
    return "as found in the source" if said in (None, "as found") else str(said)
