"""A separate program, started by a test, which sends it signals and reads what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PATIENCE = 120.0
"""Seconds after which a child is killed, so that its test fails instead of waiting for ever."""

SLACK = 10.0
"""Seconds that a slow machine may take longer than the second after the timeout. Jobs that are cut would take
600."""

PRELUDE = """
import asyncio, logging, os, signal, sys

import loopwatch
import loopwatch._engine, loopwatch._jobs.signals
from loopwatch._store.jobs import JOBS

# However slow the machine is, what a drain says is written before the program dies.
loopwatch._engine.WRITTEN = loopwatch._jobs.signals.FLUSH = 60.0
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # at once, between the lines of the log's thread
    sys.stdout.flush()

def new_loop():
    if os.environ["LOOP_KIND"] == "uvloop":
        import uvloop
        return uvloop.new_event_loop()
    loop = asyncio.new_event_loop()
    if os.environ["LOOP_KIND"] == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop

def run(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)

async def forever():
    await asyncio.Event().wait()
"""


class Child:
    """The program, with loopwatch and ``PRELUDE`` at hand."""

    def __init__(self, source: str, kind: str, tmp_path: Path, patience: float = PATIENCE) -> None:
        program = tmp_path / "program.py"
        program.write_text(PRELUDE + source, encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, program],
            env={**os.environ, "LOOP_KIND": kind, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._impatience = threading.Timer(patience, self._kill)
        self._impatience.start()
        self.said: list[str] = []
        self._signalled = 0.0
        self.took = 0.0
        """Seconds from the last signal to the end."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def until(self, word: str) -> None:
        """Read on until the program says a line with ``word`` in it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.rstrip("\n"))
            if word in line:
                return
        raise AssertionError(f"{word!r} was never said:\n" + "\n".join(self.said))

    def send(self, signum: signal.Signals) -> None:
        """Send a signal."""
        self._signalled = time.monotonic()
        self._process.send_signal(signum)

    def end(self) -> int:
        """Wait for its end, and return the exit status: minus the signal it died of."""
        assert self._process.stdout is not None
        self.said += self._process.stdout.read().splitlines()
        status = self._process.wait()
        self.took = time.monotonic() - self._signalled
        self.close()
        return status

    def close(self) -> None:
        """Leave nothing behind."""
        self._impatience.cancel()
        self._impatience.join()
        with self._process:  # which waits for it
            self._kill()

    def _kill(self) -> None:
        """Kill it and all its children, which would hold the pipe open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "\n".join(self.said)

    def outcome(self) -> Outcome:
        """Return what the log says about the drain."""
        return Outcome(self.said)


class Outcome:
    """How a drain ended, according to its log record."""

    def __init__(self, lines: list[str]) -> None:
        (summary,) = (line for line in lines if re.search(r"drained in|drain ended", line))
        self.duration = float(re.search(r"([\d.]+) s", summary)[1])  # type: ignore[index]
        counts = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+ed)\b", summary)}
        self.finished = counts["finished"]
        self.cancelled = self._named("cancelled", lines)
        self.abandoned = self._named("abandoned", lines)
        assert len(self.cancelled) == counts.get("cancelled", 0)
        assert len(self.abandoned) == counts.get("abandoned", 0)

    @staticmethod
    def _named(word: str, lines: list[str]) -> list[str]:
        found = (re.match(rf"  {word}: task '([^']+)'", line) for line in lines)
        return [match[1] for match in found if match]


def assert_none_of_200_is_missing(child: Child) -> None:
    """Check what became of 120 short jobs, 50 long, 20 that suppress cancellation, and 10 other tasks.

    They had two seconds.
    """
    outcome = child.outcome()
    finished = {f"short-{line.split()[1]}" for line in child.said if line.startswith("finished ")}
    assert outcome.finished == len(finished)
    long = {f"long-{number}" for number in range(50)}
    short = {f"short-{number}" for number in range(120)}
    assert finished | set(outcome.cancelled) == short | long
    assert set(outcome.abandoned) == {f"stubborn-{n}" for n in range(20)} | {f"task-{n}" for n in range(10)}
    assert outcome.finished + len(outcome.cancelled) + len(outcome.abandoned) == 200
    assert 2.0 <= outcome.duration < 3.0 + SLACK
    assert 2.0 <= child.took < 3.0 + SLACK
