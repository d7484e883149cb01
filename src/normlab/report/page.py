"""The page: one file that needs nothing else, neither other files nor a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .. import __version__, pages
from ..cache_files import keep_record, kept_record
from ..keyed import key
from .context import Report
from .header import endings, facts
from .sections import SECTIONS

if TYPE_CHECKING:
    from markupsafe import Markup


_EXPOSED = "window.vegaEmbed = vegaEmbed;"
"""What the script of the page calls."""


@dataclass(frozen=True)
class Part:
    """A section as it stands on the page."""

    name: str
    title: str
    body: Markup


def render(report: Report) -> str:
    """report.html."""
    from markupsafe import Markup

    environment = pages.environment(__package__)
    parts = []
    for section in SECTIONS:
        context = section.context(report)
        if context is not None:
            body = environment.from_string(section.template).render(report=report, **context)
            parts.append(Part(section.name, section.title(report), Markup(body)))
    return environment.get_template("page.html.j2").render(
        version=__version__,
        report=report,
        endings=endings(report.results),
        facts=facts(report),
        parts=parts,
        css=pages.style(__package__, "page.css") + _joined(section.style for section in SECTIONS),
        scripts=_joined(section.script for section in SECTIONS),
        script=pages.inline(__package__, "page.js"),
        vega=Markup(_bundle()),
        payload=_embedded(_payload(report)),
    )


def _payload(report: Report) -> dict[str, Any]:
    """The arms, and of every section that draws something what it draws."""
    drawn = {section.name: section.payload(report) for section in SECTIONS}
    return {
        "arms": [
            {"name": arm, "light": style.light, "dark": style.dark}
            for arm, style in report.styles.items()
        ],
        "sections": {name: content for name, content in drawn.items() if content is not None},
    }


def _joined(sources: Any) -> Markup:
    """Scripts or style sheets of the sections, one after the other, as they are."""
    from markupsafe import Markup

    return Markup("\n").join(Markup(source) for source in sources if source)


@cache
def _bundle() -> str:
    """Vega-Embed with Vega in it. It ends no script element.

    Bundling takes as long as drawing all charts, and a version always makes the same.
    """
    name = f"vega-{version('vl-convert-python')}-{key(_EXPOSED):016x}"
    kept = kept_record("pages", name)
    if kept is not None and isinstance(kept.get("script"), str):
        bundle: str = kept["script"]
    else:
        import vl_convert

        bundle = vl_convert.javascript_bundle(_EXPOSED)
        keep_record("pages", name, {"script": bundle})
    return bundle.replace("</script", r"<\/script")


def _embedded(content: Any) -> Markup:
    """JSON that is harmless inside a script element, whatever the names in it."""
    from markupsafe import Markup

    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
