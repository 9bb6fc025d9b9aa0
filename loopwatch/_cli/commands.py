"""The subcommands, as one click group."""

from __future__ import annotations

import click

from loopwatch._version import __version__

from .console import console
from .dashboards import dashboards
from .demo import demo
from .doctor import doctor
from .explain import explain
from .top.command import top


@click.group()
@click.version_option(__version__)
def cli() -> None:
    """See what an asyncio program is doing: what stalls its event loop, where, and why."""


@cli.command(add_help_option=False)
def run() -> None:
    """Run any Python program under the agent, with no change to its code."""
    raise NotImplementedError("listed for --help only: __main__ answers `run` itself, without click")


cli.add_command(console)
cli.add_command(dashboards)
cli.add_command(demo)
cli.add_command(top)
cli.add_command(doctor)
cli.add_command(explain)
