"""The words after a command: ``NAME=VALUE`` is an option, a number is a thing, all others are filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loopwatch._words import clean

from .command import WrongUseError

SHOWN = 20
"""Rows of a list, unless ``limit`` says otherwise."""
MOST = 1000

Known = Mapping[str, Sequence[str]]
"""Options and their values, the default first."""
NONE: Known = {}


@dataclass(frozen=True, slots=True)
class Options:
    """The parsed words."""

    chosen: Mapping[str, str]
    filters: tuple[str, ...]
    limit: int = SHOWN

    def keeps(self, *texts: str | None) -> bool:
        """Whether each filter occurs in one of the texts, ignoring case."""
        where = "\n".join(text for text in texts if text).casefold()
        return all(each in where for each in self.filters)


def options(words: Iterable[str], known: Known = NONE, limit: int = SHOWN) -> Options:
    """Parse words. ``limit`` is the default limit of a list.

    Raises WrongUseError for an unknown option or value.
    """
    chosen = {name: values[0] for name, values in known.items()}
    filters: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name == "limit" and equals:
            limit = _limit(value)
        elif name in known and equals:
            if value not in known[name]:
                raise WrongUseError(f"{name}={short(value)} is none of {', '.join(known[name])}.")
            chosen[name] = value
        else:
            filters.append(word.casefold())
    return Options(chosen, tuple(filters), limit)


def values_of(known: Known) -> tuple[str, ...]:
    """Return the options with each of their values, for completion."""
    return (*(f"{name}={value}" for name, values in known.items() for value in values), "limit=")


def number_of(word: str, what: str) -> int:
    """Parse a number. Raises WrongUseError if it is none."""
    if word.isascii() and word.isdigit() and len(word) <= 9:
        return int(word)
    raise WrongUseError(f"{short(word)} is no number: give that of a {what}, as `{what}s` shows it.")


def short(word: str) -> str:
    """Return a word that was not understood, cut to a length that can be echoed."""
    return clean(word) if len(word) <= 40 else f"{clean(word[:40])}..."


def _limit(value: str) -> int:
    if value.isascii() and value.isdigit() and 0 < len(value) <= 6 and 1 <= int(value) <= MOST:
        return int(value)
    raise WrongUseError(f"limit={short(value)} is no number of rows: give 1 to {MOST}.")
