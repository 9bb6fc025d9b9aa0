"""The type of a command: it gets words, and answers with lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loopwatch._clock import Clock

from .looks import Looks
from .numbers import Numbers
from .source import Source


class WrongUseError(Exception):
    """A command did not understand its arguments. The text says how to use it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What all commands of a process share."""

    source: Source
    numbers: Numbers
    looks: Looks
    clock: Clock


@dataclass(frozen=True, slots=True)
class Question:
    """One command line, parsed."""

    desk: Desk
    words: Sequence[str]
    """The words after the name of the command."""
    width: int
    """Columns that the answer may use."""

    @property
    def source(self) -> Source:
        """What the answer is read from."""
        return self.desk.source


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    arguments: str
    """As shown in its help, such as ``[N]``; empty if it takes none."""
    summary: str
    """A few words, in lower case."""
    answer: Callable[[Question], Iterable[str]]
    """Yields the lines of the answer. Raises WrongUseError for words it does not understand."""
    details: str = ""
    """Further sentences of its help."""
    words: tuple[str, ...] = ()
    """What may follow the name, as far as it can be listed: for completion."""
    for_programs: bool = False
    """Whether its lines are left as they are, however long, since only programs read them."""
