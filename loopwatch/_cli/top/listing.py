"""What a list is: where its rows come from, what is in its columns, what there is to say of one row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loopwatch._console.tables import Table, columns, cut
from loopwatch._document import Document
from loopwatch._words import clean

NARROW = 18
"""Columns that a name is not cut below while others can be left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. The signs before its heading say how it is laid out: ``_console.tables.columns``."""

    heading: str
    text: Callable[[Any], str]
    value: Callable[[Any], Any]
    """What it is sorted by: a number, a text, or None where it is not known."""
    falling: bool = True
    """Whether the largest is the most interesting, and so the first."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page with a list."""

    name: str
    rows: Callable[[Document], Iterable[Any]]
    identity: Callable[[Any], Hashable]
    """The same for the same thing in a later document."""
    columns: Callable[[Document], Sequence[Column]]
    """May speak of ages, which the document's own time tells."""
    details: Callable[[Any, Document, int], Iterable[str]]
    """The lines about one row, in so many columns."""
    empty: str
    """What to say where there is no row."""
    style: Callable[[Any], str] = lambda row: ""
    """How a row is to be coloured."""

    def shown(self, document: Document, order: Order) -> list[Any]:
        """Return the rows that the filter lets through, as they are to be sorted."""
        columns = self.columns(document)
        rows = [row for row in self.rows(document) if _keeps(order.filter, columns, row)]
        if order.column is not None and order.column < len(columns):
            column = columns[order.column]
            falling = column.falling != order.turned
            known = [row for row in rows if column.value(row) is not None]
            unknown = [row for row in rows if column.value(row) is None]
            rows = [*sorted(known, key=column.value, reverse=falling), *unknown]
        elif order.turned:
            rows.reverse()
        return rows

    def lines(self, document: Document, rows: Sequence[Any], width: int, order: Order) -> list[str]:
        """Lay rows out below their headings, of which the one that they are sorted by is marked."""
        made = self.columns(document)
        headings = [_heading(column, order.column == at, order) for at, column in enumerate(made)]
        table = Table(columns(*headings))
        for row in rows:
            table.add(*(column.text(row) for column in made))
        return [cut(line, width) for line in table.lines(width, NARROW)]


@dataclass(frozen=True, slots=True)
class Order:
    """Which rows of a list are shown, and in which order."""

    filter: str = ""
    column: int | None = None
    """The place of the column they are sorted by; None for the order that they come in."""
    turned: bool = False
    """Whether they are the other way round."""


def _heading(column: Column, sorted_by: bool, order: Order) -> str:
    if not sorted_by:
        return column.heading
    return f"{column.heading} {'v' if column.falling != order.turned else '^'}"


def _keeps(words: str, columns: Sequence[Column], row: Any) -> bool:
    """Whether each word of the filter occurs in what is shown of a row, in capitals or not."""
    if not words.strip():
        return True
    where = clean("\n".join(column.text(row) for column in columns)).casefold()
    return all(word in where for word in words.casefold().split())
