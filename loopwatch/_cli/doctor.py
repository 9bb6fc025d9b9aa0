"""``loopwatch doctor``: asks a process what is wrong with it, and reports it in words."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence

import click

from loopwatch._clock import SYSTEM

from .numbers import Finite
from .target import DEFAULT, NoAnswerError, Target, target_of
from .verdict import STATUS, Verdict, lines, plain, verdict, worst

WATCHED = 5.0
"""Seconds for which a process is watched."""
DEMO_WATCHED = 25.0
"""Seconds for all faults of the demo to show."""
AGAIN = 1.0
"""Seconds between two looks meanwhile."""
WIDEST = 110
NO_DATA = STATUS["not enough data"]


@click.command(epilog="Ends with 0 if nothing is wrong, 1 if something is, 2 if too little is known to say.")
@click.argument("target", required=False)
@click.option("--demo", is_flag=True, help="Run the demo with its faults, and diagnose that.")
@click.option("--faults", default="all", show_default=True, metavar="NAMES", help="Of the demo.")
@click.option(
    "--for",
    "seconds",
    type=Finite(0, 3600),
    help=f"Seconds to watch before the verdict.  [default: {WATCHED:g}; of the demo {DEMO_WATCHED:g}]",
)
@click.option("--json", "as_json", is_flag=True, help="Write the verdict as JSON.")
def doctor(target: str | None, demo: bool, faults: str, seconds: float | None, as_json: bool) -> None:
    """Say what is wrong with a process, why, and what to do.

    TARGET is the URL of its metrics or HOST:PORT, http://127.0.0.1:9464 if none is given, or its pid. All
    workers that share the port are asked. Nothing in them is changed.
    """
    if demo and target is not None:
        raise click.UsageError("Give a target or --demo, not both.")
    try:
        if demo:
            with _demo(faults) as url:
                verdicts = _examine(target_of(url), DEMO_WATCHED if seconds is None else seconds)
        else:
            verdicts = _examine(target_of(target or DEFAULT), WATCHED if seconds is None else seconds)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except NoAnswerError as error:
        _say_nothing(target or DEFAULT, str(error), as_json)
        sys.exit(NO_DATA)
    if as_json:
        click.echo(json.dumps(plain(verdicts), indent=2))
    else:
        width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
        click.echo("\n\n".join("\n".join(lines(each, width)) for each in verdicts))
    sys.exit(STATUS[worst([each.outcome for each in verdicts])])


def _say_nothing(target: str, why: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"verdict": "not enough data", "processes": [], "not_seen": [why]}, indent=2))
    else:
        click.echo(f"{target}: not enough data: no answer: {why}", err=True)


def _examine(target: Target, seconds: float) -> list[Verdict]:
    """Watch a target for a while, then conclude. Raises NoAnswerError if it does not answer at the end."""
    first = target.fetch()
    if sys.stderr.isatty() and seconds:
        who = f"{first.snapshot.service_name}, pid {first.process.pid}"
        click.echo(f"Watching {who!a} for {seconds:g} s.", err=True)
    until = SYSTEM.monotonic() + seconds
    never = threading.Event()
    while (left := until - SYSTEM.monotonic()) > 0:
        never.wait(min(AGAIN, left))
        with contextlib.suppress(NoAnswerError):  # only the last answer matters
            target.fetch()
    last = target.fetch()
    others: Sequence[int] = [pid for pid in last.workers if pid != last.process.pid]
    verdicts = [verdict(last)]
    for pid in others:
        with contextlib.suppress(NoAnswerError):  # the worker has ended meanwhile
            verdicts.append(verdict(target.fetch(pid)))
    return sorted(verdicts, key=lambda each: each.document.process.pid)


@contextlib.contextmanager
def _demo(faults: str) -> Iterator[str]:
    """Run the demo until the end of the block; yield the URL of its metrics."""
    command = [sys.executable, "-m", "loopwatch", "demo", "--seconds=3600", f"--faults={faults}"]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            for line in process.stdout:
                if " metrics at " in line:
                    drained = threading.Thread(target=process.stdout.read, daemon=True)
                    drained.start()
                    yield line.rpartition(" ")[2].strip()
                    return
            process.wait()
            errors.seek(0)
            raise click.ClickException(f"the demo did not start: {errors.read().strip()}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
