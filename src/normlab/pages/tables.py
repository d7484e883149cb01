"""One description of a table, printed for the terminal, Markdown, LaTeX and HTML.

Every printer escapes what the cells contain, so a name may consist of any characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from .words import NO_VALUE, visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import RenderableType
    from rich.table import Table as RichTable

Kind = Literal["text", "name", "number", "mark"]
"""What a cell contains: prose; a name as one types it; a number with its unit or interval; one of
a few labels, which pages show as a badge."""
Align = Literal["left", "right"]
FOLDED = 24
"""A terminal table in blocks folds row heads that are longer than this."""


LONG = 9
"""Of a name that may break in more places."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        kind: how it is printed.
        note: for row heads, shown below the name where the ungrouped columns are left out.
        small: follows the text in smaller type on a page, and after a space elsewhere.
        html: markup that replaces the text on a page.
        attributes: of the HTML element.
    """

    text: str
    kind: Kind = "number"
    note: str = ""
    small: str = ""
    html: Markup | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> str:
        """The whole content on one line."""
        return one_line(f"{self.text} {self.small}")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: what stands above it.
        align: of its cells.
        group: adjacent columns of one group share a head above their own.
        alone: the head where there is no row of groups; group and head by default.
        kind: of the head.
    """

    head: str
    align: Align = "right"
    group: str = ""
    alone: str = ""
    kind: Literal["text", "name"] = "text"

    @property
    def whole(self) -> str:
        """The head where there is no row of groups."""
        return self.alone or f"{self.group} {self.head}".strip()


@dataclass(frozen=True)
class Table:
    """A table; the first column has the heads of the rows.

    Attributes:
        columns: from left to right.
        rows: a cell for every column.
        title: what the table is, for files that stand alone.
        caption: above the table on a page.
        notes: what a reader has to know.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells in a table of {len(self.columns)} columns")

    @property
    def groups(self) -> list[str]:
        """Names of the groups of columns, from left to right."""
        return [name for name in dict.fromkeys(column.group for column in self.columns) if name]

    def only(self, columns: Sequence[int]) -> Table:
        """The same table with these columns."""
        return Table(
            tuple(self.columns[index] for index in columns),
            tuple(tuple(row[index] for index in columns) for row in self.rows),
            self.title,
            self.caption,
            self.notes,
        )

    def markdown(self) -> str:
        """GitHub Markdown: the table, then its notes as a list."""
        heads = [_markdown(column.whole, column.kind) for column in self.columns]
        rules = ["---" if column.align == "left" else "---:" for column in self.columns]
        lines = [
            _markdown_row(heads),
            _markdown_row(["---", *rules[1:]]),
            *(
                _markdown_row([_markdown(cell.plain, cell.kind) for cell in row])
                for row in self.rows
            ),
        ]
        if self.notes:
            lines += ["", *(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        r"""A booktabs ``tabular`` that stands alone, title and notes in comments."""
        letters = "".join("r" if column.align == "right" else "l" for column in self.columns[1:])
        comments = [*([self.title] if self.title else []),
                    r"Needs \usepackage{booktabs} in the preamble.", *self.notes]  # fmt: skip
        lines = [
            *(f"% {one_line(comment)}" for comment in comments),
            rf"\begin{{tabular}}{{l{letters}}}",
            r"\toprule",
            *self._latex_groups(),
            _latex_row([column.head for column in self.columns]),
            r"\midrule",
            *(_latex_row([cell.plain for cell in row]) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def _latex_groups(self) -> list[str]:
        if not self.groups:
            return []
        heads, rules, at = [], [], 1
        for name, width in self._spans():
            if name:
                heads.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(name)}}}")
                rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
            else:
                heads += [""] * width
            at += width
        return [" & ".join(heads).strip() + r" \\", " ".join(rules)]

    def _spans(self) -> list[tuple[str, int]]:
        """The groups of adjacent columns and their widths; columns without a group one by one."""
        found: list[tuple[str, int]] = []
        for name, columns in groupby(self.columns, key=lambda column: column.group):
            count = len(list(columns))
            found += [(name, count)] if name else [("", 1)] * count
        return found

    def html(self, classes: str = "") -> Markup:
        """One HTML table with scopes, a caption and column groups."""
        from markupsafe import Markup

        head = Markup("").join
        starts = self._starts()
        made = Markup(
            '<table class="{}" style="--name:{}ch">{}{}<thead>{}<tr>{}</tr></thead>'
            "<tbody>{}</tbody></table>"
        ).format(
            classes,
            self._widest_name(),
            Markup("<caption>{}</caption>").format(self.caption) if self.caption else "",
            self._html_colgroups(),
            self._html_groups(),
            head(
                _html_element("th", _html_name(column.head) if column.kind == "name"
                              else column.head,
                              {"scope": "col", "class": _classes(column, index in starts)})
                for index, column in enumerate(self.columns)
            ),
            head(
                Markup("<tr>{}</tr>").format(
                    head(
                        _html_cell(cell, column, first=index == 0, start=index in starts)
                        for index, (cell, column) in enumerate(zip(row, self.columns, strict=True))
                    )
                )
                for row in self.rows
            ),
        )  # fmt: skip
        return Markup(visible(made, keep="\n\t"))

    def html_blocks(self, classes: str = "") -> Markup:
        """One HTML table per group of columns, one below the other, for a narrow screen.

        Columns without a group are left out; a row head shows its note in their place.
        """
        from markupsafe import Markup

        return Markup("").join(block.html(classes) for block in self._blocks())

    def _blocks(self) -> Iterator[Table]:
        for name in self.groups:
            places = [index for index, column in enumerate(self.columns) if column.group == name]
            yield Table(
                (self.columns[0], *(_ungrouped(self.columns[index]) for index in places)),
                tuple((_noted(row[0]), *(row[index] for index in places)) for row in self.rows),
                caption=name[:1].upper() + name[1:],
            )

    def _starts(self) -> set[int]:
        """The first column of each group, and the first after one."""
        if not self.groups:
            return set()
        names = [column.group for column in self.columns]
        return {
            at for at in range(1, len(names)) if names[at] != names[at - 1] and names[at]
        }  # fmt: skip

    def _html_colgroups(self) -> Markup:
        from markupsafe import Markup

        if not self.groups:
            return Markup("")
        return Markup("").join(
            Markup('<colgroup span="{}"></colgroup>').format(width) for _, width in self._spans()
        )

    def _html_groups(self) -> Markup:
        from markupsafe import Markup

        if not self.groups:
            return Markup("")
        group = Markup('<th scope="colgroup" colspan="{}" class="start">{}</th>').format
        return Markup("<tr>{}</tr>").format(
            Markup("").join(
                group(width, name) if name else Markup("<td></td>") for name, width in self._spans()
            )
        )

    def _widest_name(self) -> int:
        return 1 + max((len(row[0].text) for row in self.rows), default=0)

    def terminal(self, width: int) -> RenderableType:
        """For a terminal of ``width`` columns, without the notes.

        In one piece where it fits, else one block per group of columns, one below the other.
        """
        from rich.console import Group
        from rich.text import Text

        if not self.groups or width >= self._natural_width():
            return self._rich(range(len(self.columns)), whole=True)
        blocks: list[RenderableType] = []
        for name in self.groups:
            shown = [
                index
                for index, column in enumerate(self.columns)
                if column.group in (name, "")
            ]  # fmt: skip
            blocks += [*([Text()] if blocks else []), self._rich(shown, whole=False, named=name)]
        return Group(*blocks)

    def _natural_width(self) -> int:
        return sum(1 + self._width_of(index) for index in range(len(self.columns))) - 1

    def _width_of(self, index: int) -> int:
        """Of a column in a table of one piece; a group's name stands above its first column."""
        column = self.columns[index]
        starts = column.group and (index == 0 or self.columns[index - 1].group != column.group)
        return max(
            len(column.head),
            len(column.group) if starts else 0,
            *(len(row[index].plain) for row in self.rows),
        )

    def _rich(self, shown: Sequence[int], *, whole: bool, named: str = "") -> RichTable:
        """Blocks (not ``whole``) have their columns in the same places, one below the other."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        made = RichTable(
            box=box.SIMPLE_HEAD, padding=(0, 0 if whole else 1, 0, 0), show_edge=False,
            header_style="bold", pad_edge=False,
        )  # fmt: skip
        name_width = max(len(row[0].plain) for row in self.rows)
        grouped = [index for index, column in enumerate(self.columns) if column.group]
        widest = max((len(row[i].plain) for row in self.rows for i in grouped), default=0)
        for index in shown:
            column = self.columns[index]
            starts = index == 0 or self.columns[index - 1].group != column.group
            above = f"{column.group if starts else ''}\n" if whole and self.groups else ""
            least: int | None = None
            if not whole and index == 0 and name_width <= FOLDED:
                least = max(name_width, *map(len, self.groups))
            elif not whole and column.group:
                least = widest
            made.add_column(
                Text(above + (named if index == 0 and named else column.head)),
                justify="left" if index == 0 else column.align,
                no_wrap=whole or bool(column.group),
                overflow="fold",
                min_width=least,
            )
        for row in self.rows:
            made.add_row(*(Text(visible(row[index].plain)) for index in shown))
        return made


def one_line(text: str) -> str:
    """The text with every run of white space as one space, and nothing that cannot be seen."""
    return visible(" ".join(text.split()))


def markdown_text(text: str) -> str:
    """Plain text: nothing in it is markup. An underscore inside a word is none anyway."""
    text = re.sub(r"([\\`*\[\]<>|~#&])", r"\\\1", one_line(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def markdown_code(text: str) -> str:
    """A code span, which in a table needs its bars escaped all the same."""
    text = one_line(text).replace("|", r"\|")
    if "`" in text:
        return f"`` {text} ``"
    return f"`{text}`"


def latex_text(text: str) -> str:
    """Plain text for LaTeX, with its signs in math mode."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def breakable(name: str) -> Markup:
    """A name that may break on a page: after its commas; a long one, in which nothing else could
    break but a word, also after underscores, colons and signs of equality.

    >>> breakable("bn,lr=0.1"), breakable("batch_renorm"), breakable("torch_bn")
    (Markup('bn,<wbr>lr=0.1'), Markup('batch_<wbr>renorm'), Markup('torch_bn'))
    """
    from markupsafe import Markup

    shown = visible(name)
    signs = r"([,_:=])" if len(shown) > LONG else r"(,)"
    return Markup("").join(
        part + Markup("<wbr>") if part in (",", "_", ":", "=") else part
        for part in re.split(signs, shown)
    )


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    NO_VALUE: "--",
}


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def _markdown(text: str, kind: Kind) -> str:
    if kind == "name":
        return markdown_code(text)
    return markdown_text(text) if kind == "text" else one_line(text).replace("|", r"\|")


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ungrouped(column: Column) -> Column:
    return Column(column.head, column.align, kind=column.kind)


def _noted(cell: Cell) -> Cell:
    """A row head with its note below the name."""
    from markupsafe import Markup

    if not cell.note:
        return cell
    named = Markup("{} <small>{}</small>").format(_html_name(cell.text), cell.note)
    return Cell(cell.text, cell.kind, html=named, attributes=cell.attributes)


def _html_name(text: str) -> Markup:
    return breakable(text)


def _classes(column: Column, start: bool) -> str:
    return " ".join(filter(None, ["left" if column.align == "left" else "",
                                  "start" if start else ""]))  # fmt: skip


def _html_cell(cell: Cell, column: Column, *, first: bool, start: bool) -> Markup:
    from markupsafe import Markup

    content: Markup | str = cell.html if cell.html is not None else cell.text
    if cell.html is None and (cell.kind == "name" or first):
        content = _html_name(cell.text)
    elif cell.html is None and cell.kind == "mark":
        content = Markup('<span class="mark {}">{}</span>').format(
            cell.text.replace(" ", "-"), cell.text
        )
    if cell.small:
        content = Markup("{} <small>{}</small>").format(content, cell.small)
    given = dict(cell.attributes)
    number = "number" if not first and cell.kind in ("number", "mark") else ""
    named = " ".join(filter(None, [_classes(column, start), number, given.pop("class", "")]))
    scope = {"scope": "row"} if first else {}
    return _html_element("th" if first else "td", content, {**scope, "class": named, **given})


def _html_element(tag: str, content: Markup | str, attributes: Mapping[str, str]) -> Markup:
    from markupsafe import Markup

    said = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in attributes.items() if value
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), said, content)
