"""What a check of the data is: the one thing that the rest of the program knows of a check.

A check is an object that follows :class:`Check`. It lives in a module or a folder of its own,
together with its result, its sentences and its part of the page, and it is listed in
:mod:`.registry`. Nothing else names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from ..data.cache import Progress
from ..pages.findings import Finding
from .image_set import ImageSet

__all__ = ["Check", "Findings", "PagePart", "Progress", "Result", "Results", "Section", "Table"]


class Findings(Protocol):
    """Anything that can say what was found."""

    def findings(self) -> list[Finding]:
        """Sentences with a level, in a fixed order."""
        ...


@runtime_checkable
class Result(Findings, Protocol):
    """What a check found."""

    def describe(self) -> dict[str, Any]:
        """Everything that was found, ready for JSON."""
        ...


R = TypeVar("R", bound=Result)
R_co = TypeVar("R_co", bound=Result, covariant=True)


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: its id on the page, in kebab case.
        title: its heading.
        template: a file in the ``templates`` of the part's package.
        context: what the template is given.
        explains: names of the findings that link to this section (:attr:`.Finding.check`).
    """

    anchor: str
    title: str
    template: str
    context: Mapping[str, Any]
    explains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A file of numbers written next to the page.

    Attributes:
        name: of the file.
        what: its contents, in words that follow "all".
        text: the contents.
    """

    name: str
    what: str
    text: str


@dataclass(frozen=True)
class PagePart:
    """What a check contributes to the page.

    Attributes:
        package: the package whose ``templates`` folder has the files named here.
        sections: in their order.
        style: a style sheet; ``script`` a script. Empty where there is none.
        method: how the check works: a term, and a sentence or more that explain it.
        limits: what the check cannot find, one sentence each.
        facts: rows for the table of facts on the method.
        tables: files written next to the page.
    """

    package: str
    sections: tuple[Section, ...] = ()
    style: str = ""
    script: str = ""
    method: tuple[tuple[str, str], ...] = ()
    limits: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()


class Check(Protocol[R_co]):
    """A check of the data. Subclass it to inherit the defaults.

    Attributes:
        name: in kebab case; with spaces in place of hyphens it names the check to people.
        key: where :meth:`Result.describe` goes in data.json.
        version: changed when the check finds other things or says them in other words.
        needs: the checks whose results it uses; they must come before it in the registry.
        thorough: what only :meth:`run` looks for, in words that follow "it did not look for".
    """

    name: str
    key: str
    version: str
    needs: tuple[Check[Any], ...] = ()
    thorough: tuple[str, ...] = ()

    def run(self, image_set: ImageSet, earlier: Results, progress: Progress | None) -> R_co:
        """The thorough check; may take minutes.

        Args:
            image_set: the images.
            earlier: results of the checks in ``needs``.
            progress: called with a stage, and how many of how many are done.
        """
        ...

    def glance(self, image_set: ImageSet) -> Findings | None:
        """What the check can say within seconds; None if nothing."""
        return None

    def glance_part(self, image_set: ImageSet) -> PagePart | None:
        """Its part of the page of a quick check, where :meth:`glance` is all that was run."""
        return None

    def remembers(self, image_set: ImageSet) -> str:
        """Names what :meth:`glance` says more because the source was checked thoroughly before;
        empty if nothing."""
        return ""

    def page_part(self, image_set: ImageSet, results: Results) -> PagePart | None:
        """Its part of the page; None if it has none.

        Args:
            image_set: the images.
            results: results of this check and of those in ``needs``.
        """
        return None


@dataclass(frozen=True)
class Results:
    """Results by check."""

    _by_name: dict[str, Result] = field(default_factory=dict)

    def add(self, check: Check[R], result: R) -> None:
        """Record what a check found."""
        self._by_name[check.name] = result

    def of(self, check: Check[R]) -> R:
        """What this check found.

        Raises:
            KeyError: it was not run, or it is not one of the checks that the caller declared.
        """
        return cast(R, self._by_name[check.name])

    def only(self, *checks: Check[Any]) -> Results:
        """The results of these checks alone."""
        return Results({check.name: self._by_name[check.name] for check in checks})
