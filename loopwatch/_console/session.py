"""A telnet session: a prompt, a line, an answer, until the client leaves."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiomonitor.context import command_done, current_monitor, current_stdout  # type: ignore[import-untyped]
from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText

from loopwatch._words import clean

from .client import Client
from .menu import Answering, LeaveError, Menu, MenuCompleter
from .output import Output
from .repl import changing_commands

PROMPT = FormattedText([("#5fd7ff bold", "loopwatch> ")])
NARROWEST = 60
"""Fewest columns that answers are laid out for: a client may claim to have none."""
HINT = "`exit` or Ctrl-D ends the session.\n"


class Sessions:
    """What all sessions of this process share.

    ``repl`` allows commands that change something, and makes an empty line repeat the last one, as in
    aiomonitor.
    """

    def __init__(
        self, monitor: Any, lw: Answering, now: Callable[[], Any], greeting: str, repl: bool
    ) -> None:
        self._monitor = monitor
        self._lw = lw
        self._now = now
        self._greeting = greeting
        self._repl = repl

    async def interact(self, client: Client) -> None:
        """Serve a client until it leaves."""
        output = client.output
        menu = Menu(
            self._lw,
            output.write,
            lambda: max(client.size.columns, NARROWEST),
            changing_commands(self._monitor, self._now) if self._repl else (),
        )
        completer = MenuCompleter(menu, self._lw)
        prompt: PromptSession[str] = PromptSession(completer=completer, complete_while_typing=False)
        output.write(self._greeting)
        self._lw.look()
        last = ""
        with self._as_aiomonitor_has_it(client):
            while True:
                try:
                    line = (await prompt.prompt_async(PROMPT)).strip()
                    if not line and self._repl:
                        line = last
                    await client.rest()
                    await self._answer(menu, line, output.write)
                    await output.drained()
                    last = line
                except KeyboardInterrupt:
                    output.write(HINT)
                except (EOFError, LeaveError):
                    return

    async def _answer(self, menu: Menu, line: str, say: Callable[[str], None]) -> None:
        if not line:
            return
        left = contextvars.copy_context().run(menu.answer, line, self._monitor)
        if inspect.isawaitable(left):
            try:
                say(f"{await left}\n")
            except Exception as error:  # noqa: BLE001 - raised by the program's loop, or for a missing task
                menu.complain(f"{type(error).__name__}: {error}")

    @contextmanager
    def _as_aiomonitor_has_it(self, client: Client) -> Iterator[None]:
        """Set the context variables that aiomonitor's commands rely on. In the session's task."""
        current_monitor.set(self._monitor)
        current_stdout.set(_Cleaned(client.output))
        command_done.set(asyncio.Event())  # set by each of its commands, awaited by nobody
        yield


class _Cleaned:
    """Where aiomonitor's commands write. They print names of tasks, which must not control the terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, text: str) -> None:
        """Write lines without control characters."""
        self._output.write("\n".join(map(clean, text.split("\n"))))

    def flush(self) -> None:
        """Do nothing: it is sent already."""
