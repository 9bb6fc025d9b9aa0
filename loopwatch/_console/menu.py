"""What can be typed in a telnet session: ``lw`` and its commands, and the commands of aiomonitor we allow."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import click
from aiomonitor.termui.commands import monitor_cli  # type: ignore[import-untyped]
from aiomonitor.termui.completion import ClickCompleter  # type: ignore[import-untyped]
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

LW = "lw"
SHOWING = ("ps", "where", "stacktrace")
"""Commands of aiomonitor that only show. Those for ended tasks need its hook, which is never set."""
CHANGING = ("signal",)
"""Commands of aiomonitor that change something. ``cancel`` and ``console`` are ours: aiomonitor's own wait
without a limit for a loop that may wait for us."""
ALIASES = {"?": "help", "h": "help", "q": "exit", "quit": "exit", "p": "ps", "w": "where", "st": "stacktrace"}
LONGEST_COMPLAINT = 200
"""Characters of an answer to an unintelligible line."""


class LeaveError(Exception):
    """The client wants to leave."""


class Answering(Protocol):
    """Answers lines: the commands of the console."""

    def run(self, line: str, width: int) -> str:
        """Return the answer to a line."""

    def complete(self, text: str) -> list[str]:
        """Return completions of the last word of ``text``."""

    def look(self) -> None:
        """Note the current counts, to tell later what has changed."""


class Menu(click.Group):
    """The commands of one session.

    ``changing`` are our own commands that change something. aiomonitor has a single command group for the
    whole process, which the program may use, so this is a separate one.
    """

    def __init__(
        self,
        lw: Answering,
        say: Callable[[str], None],
        width: Callable[[], int],
        changing: Sequence[click.Command] = (),
    ) -> None:
        super().__init__(add_help_option=False)
        self._lw = lw
        self._say = say
        self._width = width
        names = (*SHOWING, *CHANGING) if changing else SHOWING
        for command in (*self._own(), *map(monitor_cli.commands.__getitem__, names), *changing):
            self.add_command(command)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or of that alias."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def answer(self, line: str, monitor: object) -> Any:
        """Run a command line. Return what is left to await, or None. Raises LeaveError."""
        try:
            return self.main(
                shlex.split(line),
                prog_name="",
                obj=monitor,
                standalone_mode=False,
                max_content_width=self._width(),
            )
        except click.ClickException as error:
            self.complain(error.format_message())
        except LeaveError:
            raise
        except Exception as error:  # noqa: BLE001 - mostly a line that aiomonitor's commands reject
            self.complain(f"{type(error).__name__}: {error}")
        return None

    def complain(self, text: str) -> None:
        """Write briefly what is wrong."""
        printable = "".join(each if each.isprintable() else " " for each in text)
        cut = printable if len(printable) <= LONGEST_COMPLAINT else f"{printable[:LONGEST_COMPLAINT]}..."
        self._say(f"{cut}\n")

    def _own(self) -> Iterator[click.Command]:
        yield click.Command(
            LW,
            callback=self._ask,
            params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
            context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
            add_help_option=False,
            short_help="Ask loopwatch",
        )
        yield click.Command("help", callback=self._help, add_help_option=False, short_help="Show this")
        yield click.Command("exit", callback=self._leave, add_help_option=False, short_help="End the session")

    def _ask(self, words: tuple[str, ...]) -> None:
        asked = [word for word in words if word != "--help"]
        if len(asked) < len(words) or not asked:
            asked = ["help", *asked[:1]]
        self._say(f"{self._lw.run(' '.join(asked), self._width())}\n")

    def _help(self) -> None:
        context = click.get_current_context()
        names = self.list_commands(context)
        for name in names:
            command = self.commands[name]
            self._say(f"{name:12} {command.get_short_help_str(self._width() - 13)}\n")
        self._say(f"\n{LW} ...\n")
        for line in self._lw.run("help", self._width() - 2).splitlines():
            self._say(f"  {line}\n")

    def _leave(self) -> None:
        raise LeaveError


class MenuCompleter(Completer):
    """Completes the text before the cursor."""

    def __init__(self, menu: Menu, lw: Answering) -> None:
        self._lw = lw
        self._others = ClickCompleter(menu)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Return the possible completions. Never raises: the line may be anything."""
        first, space, text = document.text_before_cursor.lstrip().partition(" ")
        if first == LW and space:
            word = text.rpartition(" ")[2]
            return [Completion(each, start_position=-len(word)) for each in self._lw.complete(text)]
        try:
            return list(self._others.get_completions(document, complete_event))
        except Exception:  # noqa: BLE001 - then there are none
            return []
