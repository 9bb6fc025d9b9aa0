"""Plain text in columns that fit the width."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loopwatch._words import clean

GAP = "  "
NARROW = 8
"""Width below which a name is not cut."""


def cells(text: str) -> int:
    """Return how many terminal columns a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(each) for each in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """Cut to ``width`` columns: at the beginning or at the end, with a mark there."""
    if cells(text) <= width:
        return text
    kept: list[str] = []
    room = width - 1
    for character in reversed(text) if keep_end else text:
        room -= _cells_of(character)
        if room < 0:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept) + "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and how the cells below it may be laid out."""

    heading: str
    right: bool = False
    """Whether to align to the right, like numbers."""
    cut: str = ""
    """``start`` or ``end``: where texts are cut if there is no room. Empty: they are never cut."""
    spare: bool = False
    """Whether the column is left out if there is still no room."""


@dataclass(slots=True)
class Table:
    """Rows under headings."""

    columns: Sequence[Column]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Add a row, with a text for each column."""
        self.rows.append(tuple(map(clean, texts)))

    def lines(self, width: int, narrow: int = NARROW) -> Iterator[str]:
        """Yield the headings and the rows, fitted into ``width`` columns as far as possible.

        Empty columns are left out, and so are spare ones before others are cut below ``narrow``.
        """
        cells_of = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        shown = [
            (column, texts)
            for column, texts in zip(self.columns, cells_of, strict=True)
            if any(texts) or not self.rows
        ]
        widths = _widths(shown, width, narrow)
        while _whole(widths) > width and any(column.spare for column, _ in shown):
            del shown[max(at for at, (column, _) in enumerate(shown) if column.spare)]
            widths = _widths(shown, width, narrow)
        if _whole(widths) > width:
            widths = _widths(shown, width, NARROW)
        if any(column.heading for column, _ in shown):
            yield _line([(column, column.heading) for column, _ in shown], widths)
        for at in range(len(self.rows)):
            yield _line([(column, texts[at]) for column, texts in shown], widths)


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _widths(shown: Sequence[tuple[Column, Sequence[str]]], width: int, narrow: int) -> list[int]:
    """Return the columns' widths. If there is no room, the widest columns that can be cut shrink."""
    widths = [max(map(cells, (column.heading, *texts))) for column, texts in shown]
    excess = _whole(widths) - width
    flexible = [at for at, (column, _) in enumerate(shown) if column.cut]
    while excess > 0 and flexible:
        widest = max(flexible, key=lambda at: widths[at])
        if widths[widest] <= max(narrow, cells(shown[widest][0].heading)):
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _line(texts: Sequence[tuple[Column, str]], widths: Sequence[int]) -> str:
    laid_out = []
    for (column, text), width in zip(texts, widths, strict=True):
        fitted = cut(text, width, keep_end=column.cut == "start") if column.cut else text
        room = " " * (width - cells(fitted))
        laid_out.append(room + fitted if column.right else fitted + room)
    return GAP.join(laid_out).rstrip()


def columns(*headings: str) -> tuple[Column, ...]:
    """Make columns from headings with a prefix of signs.

    ``=`` aligns to the right; ``<`` and ``>`` allow texts to be cut, at the start, which suits dotted names,
    or at the end; ``~`` allows the column to be left out.
    """
    made = []
    for heading in headings:
        text = heading.lstrip("=<>~")
        signs = heading[: len(heading) - len(text)]
        where = "start" if "<" in signs else "end" if ">" in signs else ""
        made.append(Column(text, right="=" in signs, cut=where, spare="~" in signs))
    return tuple(made)


def fitted(line: str, width: int) -> list[str]:
    """Return a line, or the lines it takes if it is too long."""
    line = clean(line).rstrip()
    if cells(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return [cut(part, width) for part in paragraph(line, width, "", indent)]


def paragraph(text: str, width: int, first: str = "", indent: str = "") -> list[str]:
    """Break a text into lines: ``first`` before the first one, ``indent`` before the others."""
    return textwrap.wrap(
        clean(text), width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
