"""What a command is: it is asked with words, and answers with lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loopwatch._clock import Clock

from .looks import Looks
from .numbers import Numbers
from .source import Source


class WrongUseError(Exception):
    """A command was asked in a way it does not understand. The text says how to ask."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all commands work with, of one process."""

    source: Source
    numbers: Numbers
    looks: Looks
    clock: Clock


@dataclass(frozen=True, slots=True)
class Question:
    """One line, taken apart."""

    desk: Desk
    words: Sequence[str]
    """What followed the name of the command."""
    width: int
    """Columns that the answer may have."""

    @property
    def source(self) -> Source:
        """Where the answer comes from."""
        return self.desk.source


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    arguments: str
    """As in its help, such as ``[N]``; empty for one that takes none."""
    summary: str
    """A few words, in small letters."""
    answer: Callable[[Question], Iterable[str]]
    """Yields the lines of the answer. Raises WrongUseError for words it does not understand."""
    details: str = ""
    """Further sentences of its help."""
    words: tuple[str, ...] = ()
    """What may follow the name, as far as it can be listed: for completion."""
