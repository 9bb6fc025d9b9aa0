"""The definition of a list: where its rows come from, what its columns contain, the details of a row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from loopwatch._console.tables import Table, columns, cut
from loopwatch._document import Document
from loopwatch._words import clean

NARROW = 18
"""Width below which a name is not cut while other columns can be left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Signs before its heading define its layout: see ``_console.tables.columns``."""

    heading: str
    text: Callable[[Any], str]
    value: Callable[[Any], Any]
    """The value to sort by: a number, a text, or None if unknown."""
    falling: bool = True
    """Whether the largest value is the most interesting, and so comes first."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One page with a list."""

    name: str
    rows: Callable[[Document], Iterable[Any]]
    identity: Callable[[Any], Hashable]
    """Returns a key that is the same for the same thing in a later document."""
    columns: Callable[[Document], Sequence[Column]]
    """Takes the document, since ages are relative to its time."""
    details: Callable[[Any, Document, int], Iterable[str]]
    """The lines about one row, in the given number of columns."""
    empty: str
    """The text if there are no rows."""
    style: Callable[[Any], str] = lambda row: ""
    """Returns the colour of a row."""

    def shown(self, document: Document, order: Order) -> list[Any]:
        """Return the rows that match the filter, sorted."""
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
        """Lay rows out below their headings, marking the one they are sorted by."""
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
    """Index of the column to sort by; None for the original order."""
    turned: bool = False
    """Whether the order is reversed."""


def _heading(column: Column, sorted_by: bool, order: Order) -> str:
    if not sorted_by:
        return column.heading
    return f"{column.heading} {'v' if column.falling != order.turned else '^'}"


def _keeps(words: str, columns: Sequence[Column], row: Any) -> bool:
    """Whether each word of the filter occurs in what is shown of a row, ignoring case."""
    if not words.strip():
        return True
    where = clean("\n".join(column.text(row) for column in columns)).casefold()
    return all(word in where for word in words.casefold().split())
