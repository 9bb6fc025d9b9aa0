"""The ``loopwatch`` command: one module for each subcommand, imported when it is called.

Nothing here imports the agent: ``__main__`` hands its ``install`` over as the click context's object.
"""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = ("demo", "run")
"""Each is a module here that holds a click command of the same name."""


class Commands(click.Group):
    """Imports a subcommand when it is asked for, so that ``run`` need not pay for what ``demo`` imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of ``--help``."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command


@click.group(cls=Commands)
@click.version_option(package_name="loopwatch")
def cli() -> None:
    """See what an asyncio program is doing: which calls stall its event loop, why, and where."""
