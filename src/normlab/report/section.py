"""What a section of the report is.

A section is a folder under ``sections/`` and a line in ``SECTIONS``. The folder contains the class
(``__init__.py``) and, where the section needs them, ``template.html.j2`` (what it says),
``script.js`` (what it draws) and ``style.css``.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

from ..pages.tables import Table, markdown_text
from .context import Report
from .vega import Figure


@dataclass(frozen=True)
class TableFile:
    """A table of a section that is written to a file of its own.

    Attributes:
        name: of the file, with its ending.
        text: what is written.
        about: a few words for the list of files.
    """

    name: str
    text: str
    about: str

    @classmethod
    def latex(cls, name: str, table: Table, about: str) -> TableFile:
        """A table as a LaTeX ``tabular``."""
        return cls(name, table.latex(), about)


class Section(Protocol):
    """One part of the report: on the page, in results.md, and in files of its own."""

    @property
    def name(self) -> str:
        """The name of its folder; on the page the anchor is ``#h-NAME``."""

    def title(self, report: Report) -> str:
        """Its heading."""

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """What its template says; None where the study has nothing for this section."""

    def payload(self, report: Report) -> Any:
        """What its script draws, as JSON; None where there is nothing to draw."""

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """Name to SVG and PNG of every chart that is written to ``figures/``."""

    def tables(self, report: Report) -> Sequence[TableFile]:
        """Its tables that are written to files."""

    def markdown(self, report: Report) -> Sequence[str]:
        """Its blocks in results.md, in Markdown; empty where it has none."""

    @property
    def template(self) -> str:
        """Jinja source of what stands below its heading."""

    @property
    def script(self) -> str:
        """JavaScript that registers what it draws; may be empty."""

    @property
    def style(self) -> str:
        """CSS of its own; may be empty."""


class FolderSection(ABC):
    """A section whose files are in the folder of its class. What it leaves out is empty.

    Attributes:
        heading: above the section; one that depends on the study overrides :meth:`title`.
    """

    heading = ""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return type(self).__module__.rpartition(".")[2]

    def title(self, report: Report) -> str:
        """Its heading, which may depend on the study."""
        return self.heading

    @abstractmethod
    def context(self, report: Report) -> Mapping[str, Any] | None:
        """What its template says."""

    def payload(self, report: Report) -> Any:
        """Nothing to draw."""
        return None

    def figures(self, report: Report) -> Mapping[str, Figure]:
        """No figures."""
        return {}

    def tables(self, report: Report) -> Sequence[TableFile]:
        """No tables in files."""
        return ()

    def markdown(self, report: Report) -> Sequence[str]:
        """Nothing in results.md."""
        return ()

    @property
    def template(self) -> str:
        """template.html.j2."""
        return self._read("template.html.j2")

    @property
    def script(self) -> str:
        """script.js, if there is one."""
        return self._read("script.js")

    @property
    def style(self) -> str:
        """style.css, if there is one."""
        return self._read("style.css")

    def _read(self, name: str) -> str:
        package = sys.modules[type(self).__module__]
        path = resources.files(package).joinpath(name)
        return path.read_text(encoding="utf-8") if path.is_file() else ""


class ShownTable(Protocol):
    """A table with what its reader has to know."""

    def explained(self) -> Sequence[str]:
        """What it is about: paragraphs above it."""

    def table(self) -> Table:
        """The table itself."""

    def notes(self) -> Sequence[str]:
        """What to know when reading it: a list below it."""


class TableSection(FolderSection):
    """A section that is a table with its explanation, on the page as in results.md."""

    @abstractmethod
    def shown(self, report: Report) -> ShownTable | None:
        """The table; None where the study has nothing for it."""

    def context(self, report: Report) -> Mapping[str, Any] | None:
        """The table, and what it is about."""
        found = self.shown(report)
        if found is None:
            return None
        return {
            "label": self.title(report),
            "explained": found.explained(),
            "table": found.table().html("sure"),
            "notes": found.notes(),
        }

    def markdown(self, report: Report) -> Sequence[str]:
        """The same table."""
        found = self.shown(report)
        if found is None:
            return ()
        said = "\n".join(f"- {markdown_text(note)}" for note in found.notes())
        return (*map(markdown_text, found.explained()), found.table().markdown(), said)

    @property
    def template(self) -> str:
        """table_section.html.j2, which all such sections share."""
        path = resources.files(__package__).joinpath("table_section.html.j2")
        return path.read_text(encoding="utf-8")
