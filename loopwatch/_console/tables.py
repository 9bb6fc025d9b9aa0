"""Plain text: columns that fit the width, quantities as people write them, names made harmless."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

GAP = "  "
NARROW = 8
"""Columns that a name is not cut below."""


def clean(text: str) -> str:
    """Spell out what is not printable. Names come from the program, and its input: they may hold anything."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def span(seconds: float | None) -> str:
    """Write a span of time with its unit, in 8 characters at most; a dash for what is not known."""
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms" if seconds else "0"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s" if seconds >= 9.995 else f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {seconds:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h" if days < 1000 else f"{days}d"


def number(value: float | None) -> str:
    """Write how many, in 6 characters at most; a dash for what is not known."""
    if value is None:
        return "-"
    if value < 10_000:
        return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    for unit in ("k", "M", "G", "T"):
        value /= 1000
        if value < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 else f"{value:.1f}{unit}"
    return f"{value:.2g}"


def percent(share: float | None) -> str:
    """Write a share of one; a dash for what is not known."""
    return "-" if share is None else f"{share:.0%}"


def cells(text: str) -> int:
    """Return how many columns a printable text takes."""
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
    """Aligned to the right, as numbers are."""
    cut: str = ""
    """``start`` or ``end``: where texts are cut if there is no room. Else they never are."""


@dataclass(slots=True)
class Table:
    """Rows under headings."""

    columns: Sequence[Column]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Add a row, with a text for each column."""
        self.rows.append(tuple(map(clean, texts)))

    def lines(self, width: int) -> Iterator[str]:
        """Yield the headings and the rows, in ``width`` columns, if only names have to be cut for that."""
        widths = self._widths(width)
        if any(column.heading for column in self.columns):
            yield self._line(tuple(column.heading for column in self.columns), widths)
        for row in self.rows:
            yield self._line(row, widths)

    def _widths(self, width: int) -> list[int]:
        """Return the columns' widths. What there is not room for is taken from the widest that can be cut."""
        longest = (
            [
                max(map(cells, (column.heading, *texts)))
                for column, texts in zip(self.columns, zip(*self.rows, strict=True), strict=True)
            ]
            if self.rows
            else [cells(column.heading) for column in self.columns]
        )
        excess = sum(longest) + len(GAP) * (len(longest) - 1) - width
        flexible = [at for at, column in enumerate(self.columns) if column.cut]
        while excess > 0 and flexible:
            widest = max(flexible, key=lambda at: longest[at])
            if longest[widest] <= NARROW:
                break
            longest[widest] -= 1
            excess -= 1
        return longest

    def _line(self, texts: Sequence[str], widths: Sequence[int]) -> str:
        laid_out = []
        for column, text, width in zip(self.columns, texts, widths, strict=True):
            fitted = cut(text, width, keep_end=column.cut == "start") if column.cut else text
            room = " " * (width - cells(fitted))
            laid_out.append(room + fitted if column.right else fitted + room)
        return GAP.join(laid_out).rstrip()


def columns(*headings: str) -> tuple[Column, ...]:
    """Make columns of headings: ``=`` before one aligns to the right, ``<`` and ``>`` let texts be cut.

    ``<`` at their beginning, which suits dotted names, ``>`` at their end.
    """
    cuts = {"<": "start", ">": "end"}
    return tuple(
        Column(heading.lstrip("=<>"), heading.startswith("="), cuts.get(heading[:1], ""))
        for heading in headings
    )


def paragraph(text: str, width: int, first: str = "", indent: str = "") -> list[str]:
    """Break a text into lines: ``first`` before the first one, ``indent`` before the others."""
    return textwrap.wrap(
        clean(text), width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
