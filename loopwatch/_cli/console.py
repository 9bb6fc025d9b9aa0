"""``loopwatch console``: talks to the line console of a process, interactively or for one command."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence

import click

from loopwatch._consoles import PROMPT, Client, Found, found

TIMEOUT = 10.0
"""Seconds to wait for an answer: longer than a command takes on 10,000 tasks."""
GREETED = 1.0
"""Seconds that each process has to introduce itself, if there are several."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("process", required=False)
@click.argument("command", nargs=-1)
def console(process: str | None, command: tuple[str, ...]) -> None:
    """Look inside a live process: its loops, stalls, tasks, pools.

    PROCESS is the pid of a process that runs under loopwatch, or the path of its socket; it may be left out
    if there is only one. With a COMMAND, prints its answer; without, prompts for commands: `help` lists them.
    """
    if process is not None and not process.isdecimal() and os.sep not in process:
        command, process = (process, *command), None
    path = _path(process)
    try:
        client = Client(path, TIMEOUT)
    except OSError as error:
        raise click.ClickException(_unreached(path, error)) from None
    with contextlib.closing(client):
        try:
            if command:
                _answer(client, " ".join(command))
            elif sys.stdin.isatty():
                _dialogue(client)
            else:
                for line in sys.stdin:
                    _answer(client, line)
        except OSError as error:
            raise click.ClickException(_unreached(path, error)) from None


def _path(process: str | None) -> str:
    """Return the socket to connect to. Raises ClickException if it is not clear which."""
    if process is not None and os.sep in process:
        return process
    consoles = found()
    if process is None and len(consoles) == 1:
        return consoles[0].path
    for one in consoles:
        if process is not None and one.pid == int(process):
            return one.path
    if not consoles:
        raise click.ClickException(_NONE)
    which = "Which one?" if process is None else f"There is none with pid {process}, but:"
    raise click.ClickException("\n".join([which, *map(_introduced, consoles)]))


def _introduced(one: Found) -> str:
    """Return a line on a console: how it introduces itself."""
    try:
        client = Client(one.path, GREETED)
    except OSError:
        return f"  {one.pid}  does not answer"
    client.close()
    return f"  {one.pid}  {client.greeting.partition(', pid')[0].partition(': ')[2]}"


def _answer(client: Client, line: str) -> None:
    client.ask(f"width {shutil.get_terminal_size((100, 24)).columns}")
    if answer := client.ask(line):
        click.echo(answer)


def _dialogue(client: Client) -> None:
    """Read lines until there are no more, with history and completion if readline is available."""
    click.echo(client.greeting)
    with _completion(lambda text: client.ask(f"complete {text}").split("\n")):
        while True:
            try:
                line = input(PROMPT).strip()
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo()
                continue
            if line in ("quit", "exit"):
                return
            _answer(client, line)


def _completion(complete: Callable[[str], Sequence[str]]) -> contextlib.ExitStack:
    """Make readline complete words, until the end of the block."""
    undo = contextlib.ExitStack()
    try:
        import readline
    except ImportError:  # on Windows, and in some builds
        return undo

    def completer(word: str, at: int) -> str | None:
        with contextlib.suppress(OSError):
            if at == 0:
                candidates[:] = filter(None, complete(readline.get_line_buffer()[: readline.get_endidx()]))
            return f"{candidates[at]} " if at < len(candidates) else None
        return None

    candidates: list[str] = []
    undo.callback(readline.set_completer, readline.get_completer())
    undo.callback(readline.set_completer_delims, readline.get_completer_delims())
    readline.set_completer(completer)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    return undo


def _unreached(path: str, error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"{path} does not answer: the process is stopped, or code in C holds its GIL. When that goes on "
            "for 5 s, the stacks are in its dump file, loopwatch-PID-*.dump in the temporary directory."
        )
    return f"{path}: {error.strerror or error}"


_NONE = (
    "No process of this user can be found. One has a console once an event loop runs in it under loopwatch, "
    "unless LOOPWATCH_CONSOLE_SOCKET=0. If it has another temporary directory than this shell, or is another "
    "user's or in a container, give the path of its socket, which agent.console_path tells."
)
