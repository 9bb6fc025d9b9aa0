"""``loopwatch demo``: a service with faults, its clients and its LLM, and what the agent says about them.

The service runs in this process, with ``loopwatch.install()`` as its only mention of us; the LLM's stand-in
and the clients run in processes of their own. Everything listens on free loopback ports.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import threading
from pathlib import Path

import click
from rich.console import Console

from .demo_stage import Calls, Stage
from .demo_view import View
from .numbers import Finite

NEEDED = ("fastapi", "uvicorn", "httpx")
PIPED_WIDTH = 120
"""Columns if there is no terminal: rich would assume 80 and break the tables."""


@click.command()
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=Finite(min=1),
    help="How long to run.",
)
@click.option(
    "--faults",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="The mistakes the service makes: all, none, or names with commas between them.",
)
@click.option(
    "--factor",
    default=30.0,
    show_default=True,
    type=Finite(1, 100),
    help="The LLM takes 2 to 90 s to answer, divided by this.",
)
@click.option("--list-faults", is_flag=True, help="Say what the faults are, and end.")
@click.pass_obj
def demo(calls: Calls, seconds: float, faults: str, factor: float, list_faults: bool) -> None:
    """Run a document-analysis service that makes mistakes, and show what loopwatch says about it.

    Needs no server and no network. Ctrl-C ends it early, with the summary.
    """
    home = _find_service()
    from analysis_service.settings import Fault

    if list_faults:
        for fault in Fault:
            click.echo(f"{fault.name.lower():8} the service {fault.value}")
        return
    try:
        count = len(Fault.parse(faults))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from None
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends cleanly too, as with Ctrl-C
    with Stage(calls, home, factor, faults) as stage:
        agent = calls.install()  # the agent that the service has installed by now
        view = View(agent, console)
        what = f"A document-analysis service with {count} faults"
        view.introduce(f"{what}, for {seconds:g} s at {stage.url}/documents")
        _play(stage, view, seconds)
        view.summary()


def _play(stage: Stage, view: View, seconds: float) -> None:
    """Serve for ``seconds`` or until Ctrl-C, while ``view`` shows."""
    ended = threading.Event()
    showing = threading.Thread(target=view.run, args=(ended,), name="demo-view", daemon=True)
    showing.start()
    try:
        stage.serve(seconds, hear=view.hear)
    finally:
        ended.set()
        showing.join()


def _find_service() -> Path:
    """Make ``analysis_service`` importable; return its parent directory, in the wheel or a checkout."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        needed = ", ".join(missing)
        raise click.ClickException(f"the demo needs {needed}. Run: pip install 'loopwatch[demo]'")
    here = Path(__file__).parent
    for home in (here / "examples", here.parents[1] / "examples"):
        if (home / "analysis_service").is_dir():
            sys.path.append(str(home))
            return home
    raise click.ClickException(f"the demo's service is missing; it belongs in {here / 'examples'}")
