"""The commands of the console: one line in, text out. The same for telnet, the socket and all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal

from . import changes, everything, findings, jobs, loops, pools, tasks
from .command import Command, Desk, Question, WrongUseError
from .looks import Looks
from .numbers import Numbers
from .source import Source
from .tables import Table, columns, fitted, paragraph

COMPONENT = "console"
"""The component under which failures of commands are counted."""
NARROWEST, WIDEST = 60, 500
"""Bounds of the columns that text is laid out for."""
ECHOED = 40
"""Characters of unintelligible input that are echoed."""

ALL: tuple[Command, ...] = (
    *loops.COMMANDS,
    *tasks.COMMANDS,
    *pools.COMMANDS,
    *findings.COMMANDS,
    *changes.COMMANDS,
    *jobs.COMMANDS,
    *everything.COMMANDS,
)


class Commands:
    """Answers command lines, in any thread except a watched loop's. Changes nothing in the program."""

    def __init__(self, source: Source, journal: Journal, clock: Clock = SYSTEM) -> None:
        self._desk = Desk(source, Numbers(), Looks(clock), clock)
        self._journal = journal
        self._commands = {command.name: command for command in (*ALL, self._help())}
        self._shown = {name: each for name, each in self._commands.items() if not each.for_programs}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the commands for people, in the order in which they are best explained."""
        return tuple(self._shown)

    def summary(self, name: str) -> str:
        """Return a few words on a command. Raises KeyError if there is none of that name."""
        return self._commands[name].summary

    def run(self, line: str, width: int = 100) -> str:
        """Return the answer to a line, without a trailing newline; for an empty line, an empty text.

        If a line is not understood, the answer says so. Nothing is raised. The text contains no control
        characters except newlines, whatever the program calls its tasks.
        """
        width = min(max(width, NARROWEST), WIDEST)
        name, *words = line.split() or [""]
        if not name:
            return ""
        try:
            command = self._command(name)
            lines = list(command.answer(Question(self._desk, words, width)))
            if command.for_programs:
                return "\n".join(lines)
        except WrongUseError as wrong:
            lines = [str(wrong)]
        except Exception as error:  # noqa: BLE001 - counted and logged; the answer says so
            self._journal.failure(COMPONENT, error)
            lines = [f"{name} failed: {type(error).__name__}. The log has the details."]
        return "\n".join(part for each in lines for part in fitted(each, width))

    def knows(self, line: str) -> bool:
        """Whether ``line`` begins with a command, or an unambiguous prefix of one."""
        try:
            return bool(line.split()) and self._command(line.split()[0]) is not None
        except WrongUseError:
            return False

    def look(self) -> None:
        """Note the current counts, so that ``top`` can tell what has changed since; at most once a second."""
        if self._desk.looks.due():
            self._desk.looks.take(self._desk.source.snapshot())

    def complete(self, text: str) -> list[str]:
        """Return completions of the last word of ``text``, as whole words, best first."""
        *before, begun = text.split(" ")
        before = [word for word in before if word]
        if not before:
            return [name for name in self._shown if name.startswith(begun)]
        known: Iterable[str] = ()
        if before[0] == "help":
            known = self._shown if len(before) == 1 else ()
        elif before[0] in self._commands:
            known = self._commands[before[0]].words
        return [word for word in known if word.startswith(begun)]

    def _command(self, name: str) -> Command:
        """Return the command of that name, or the only one that begins with it."""
        begun = [known for known in self._shown if known.startswith(name)]
        if name not in self._commands and len(begun) != 1:
            which = f"may be {' or '.join(begun)}" if begun else "is no command"
            echoed = name if len(name) <= ECHOED else f"{name[:ECHOED]}..."
            raise WrongUseError(f"{echoed!r} {which}. `help` lists all.")
        return self._commands.get(name) or self._commands[begun[0]]

    def _help(self) -> Command:
        return Command("help", "[COMMAND]", "what can be asked, or more on one command", self._answer_help)

    def _answer_help(self, question: Question) -> Iterator[str]:
        if question.words:
            command = self._command(question.words[0])
            yield f"{command.name} {command.arguments}".rstrip()
            yield from paragraph(f"{command.summary}. {command.details}", question.width, "  ", "  ")
            return
        table = Table(columns("", ">"))
        for command in self._shown.values():
            table.add(f"{command.name} {command.arguments}", command.summary)
        yield from table.lines(question.width)
