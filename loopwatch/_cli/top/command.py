"""``loopwatch top``."""

from __future__ import annotations

import errno

import click

from loopwatch._cli.numbers import Finite
from loopwatch._cli.target import DEFAULT, target_of

from .fetching import Fetching
from .session import Session
from .terminal import NoTerminalError, Terminal

EVERY = 1.0


@click.command()
@click.argument("target", default=DEFAULT)
@click.option(
    "--every",
    default=EVERY,
    show_default=True,
    type=Finite(0.1, 60),
    help="Seconds between two looks.",
)
def top(target: str, every: float) -> None:
    """Watch a process live: its loops, stalls, tasks, pools and findings.

    TARGET is the URL of its metrics or HOST:PORT, http://127.0.0.1:9464 if none is given, or its pid.
    Nothing in it is changed. Press ? for the keys.
    """
    try:
        found, terminal = target_of(target), Terminal()
    except (ValueError, NoTerminalError) as error:
        raise click.ClickException(f"top: {error}") from None
    fetching = Fetching(found, every, terminal.wake)
    try:
        with terminal.opened():
            fetching.start()
            Session(found.name, fetching, terminal).run()
    except (EOFError, KeyboardInterrupt):  # the terminal is gone, or Ctrl-C: both are normal ends
        pass
    except OSError as error:
        if error.errno != errno.EIO:  # EIO: the terminal went away while it was being drawn on
            raise
    finally:
        fetching.end()
