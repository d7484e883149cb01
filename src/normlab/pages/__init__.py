"""Pages that stand alone: one file each, which needs neither other files nor a network.

A page is a template in its package's ``templates`` folder. Colours, type, tables and print are the
same on all of them and lie in ``base.css`` here.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from .words import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def environment(package: str) -> Environment:
    """What reads the templates of a package.

    Whatever is put into a template is escaped unless it is ``Markup``, and a name that was not
    given is an error. The filter ``count`` puts commas into large numbers.

    Args:
        package: its ``__package__``.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _read(package, name)),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    made.filters["count"] = lambda number: f"{number:,}"
    return made


def _shown(value: Any) -> Any:
    """Text without what HTML may not contain; line breaks are no more than space there."""
    from markupsafe import Markup

    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, keep="\n\t")
    return value


def style(package: str, name: str) -> Markup:
    """The shared rules, then the page's own, which win where both say something."""
    return inline(__package__, "base.css") + inline(package, name)


def inline(package: str, name: str) -> Markup:
    """A script or a style sheet from the ``templates`` of a package, as it is."""
    from markupsafe import Markup

    return Markup(_read(package, name))


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")
