"""Runs CPython's own tests of asyncio without the agent and with it: every test has to end alike.

    python tests/conformance/run.py [MODULE ...]

Each module of ``test.test_asyncio``, all of them by default, runs in a process of its own, once bare and
once watched. Where a test ends otherwise, its module runs once more in both ways: a test that does not end
alike in two bare runs, or in two watched ones, is one that a busy machine can upset, and tells nothing. Nor
does a process that ends badly in one bare run.
Exit status 1 if a test ends otherwise under the agent, or if the agent overlooked loops, recorded too few
tasks, or failed in a part of its own. A Python that comes without these tests is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKERS = os.cpu_count() or 1
"""Modules run at a time. ``.ci/run`` runs as many Pythons at a time again: what tests do is wait, mostly."""
TIMEOUT = 300.0
"""Seconds until a module is taken to hang; the longest takes half a minute on a slow machine."""
TO_WRITE = 10.0
"""Seconds that one which hangs has to write where."""
ATTACHED = 0.99
"""Share of the loops with the standard clock that has to be watched. Not 1: three tests of some 1,300 replace
``_run_once`` on the loop itself, which then is one with a clock of its own."""
TASKS = 2000
"""Tasks that have to be recorded, at least. The tests of Python 3.11, which has the fewest, create 5,200."""
COMPLAINT = re.compile(r"^loopwatch: \w+ failed;.{,2000}", re.MULTILINE | re.DOTALL)
"""What the agent logs of the first failure of a part of its own, with a traceback."""


@dataclass(slots=True)
class Run:
    """One module, run once."""

    endings: dict[str, str] = field(default_factory=dict)
    """How each test ended; and how the process, under the module's name, and the agent did if not well."""
    errors: dict[str, str] = field(default_factory=dict)
    """What there is to read about those that failed."""
    counts: dict[str, float] = field(default_factory=dict)
    """What the agent saw."""

    def differing(self, other: Run) -> set[str]:
        """Return the tests that ended otherwise in the other run, or ran in one of them alone."""
        return {test for test, _ in self.endings.items() ^ other.endings.items()}


@dataclass(slots=True)
class Comparison:
    """One module, run bare and watched."""

    bare: Run
    watched: Run
    unsteady: set[str] = field(default_factory=set)
    """Tests that ended otherwise in a second run of the same kind."""

    @property
    def differing(self) -> list[str]:
        """The tests that ended otherwise because of the agent."""
        return sorted(self.bare.differing(self.watched) - self.unsteady)


def run(module: str, mode: str) -> Run:
    """Run a module in a process and a directory of its own."""
    script = Path(__file__).with_name("module.py")
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", script, module, mode, report],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        try:
            log, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler then writes where it hangs
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TO_WRITE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children, too, who would hold the pipe open
            log, _ = process.communicate(timeout=TO_WRITE)
        found = Run(**json.loads(report.read_text())) if report.exists() else Run(errors={module: log})
    if complaint := COMPLAINT.search(log):
        found.errors["the agent"] = complaint[0]
    if process.returncode:
        found.endings[module] = f"exit status {process.returncode}"
    return found


def compare(module: str) -> Comparison:
    """Run a module bare and watched, and in both ways once more if need be."""
    bare, watched = run(module, "bare"), run(module, "watched")
    comparison = Comparison(bare, watched)
    if comparison.differing:
        again = bare.differing(run(module, "bare")) | watched.differing(run(module, "watched"))
        # Under the agent, neither that nor the process is to fail even once.
        comparison.unsteady = again - {"the agent", *watched.endings.keys() & {module}}
    return comparison


def modules() -> list[str]:
    """Return the names of the test modules, the largest first, which take the longest."""
    try:
        from test import test_asyncio
    except ImportError:
        return []
    files = Path(test_asyncio.__path__[0]).glob("test_*.py")
    return [file.stem for file in sorted(files, key=lambda file: file.stat().st_size, reverse=True)]


def listed(counts: Counter[str], prefix: str = "") -> str:
    """Write out those counts whose name begins so."""
    chosen = {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}
    return ", ".join(f"{count:,.0f} {name}" for name, count in chosen.items()) or "none"


def report(comparisons: list[Comparison]) -> Counter[str]:
    """Print what was seen in all modules together; return the counts of the agent."""
    endings = Counter(ending for each in comparisons for ending in each.watched.endings.values())
    counts: Counter[str] = sum((Counter(each.watched.counts) for each in comparisons), Counter())
    print(f"  tests: {listed(endings)}")
    print(f"  loops with the standard clock: {counts['loops']:,}, of which watched {counts['attached']:,}")
    print(f"  loops left alone: {listed(counts, 'left alone: ')}")
    print(f"  tasks recorded: {counts['tasks']:,.0f}")
    for test in sorted(test for each in comparisons for test in each.unsteady):
        print(f"  not compared, since two runs of one kind differ: {test}")
    return counts


def shortcomings(comparisons: list[Comparison], counts: Counter[str], tasks: int) -> Iterator[str]:
    """Yield what is wrong: tests that end otherwise, or an agent that did not see what ran."""
    for each in comparisons:
        for test in each.differing:
            watched, bare = (run.endings.get(test, "nothing") for run in (each.watched, each.bare))
            error = each.watched.errors.get(test) or each.bare.errors.get(test, "")
            yield f"{test}: {watched}; bare: {bare}\n{error}"
    if counts["attached"] < ATTACHED * counts["loops"]:
        yield "loops with the standard clock were not watched"
    if counts["tasks"] < tasks:
        yield f"fewer than {tasks:,} tasks were recorded"


def main() -> int:
    """Run the modules named on the command line, or all; return the exit status."""
    version, found = platform.python_version(), modules()
    if not found:
        print(f"Python {version} comes without CPython's tests of asyncio: left out")
        return 0
    chosen = sys.argv[1:] or found
    with ThreadPoolExecutor(WORKERS) as pool:
        comparisons = list(pool.map(compare, chosen))
    print(f"CPython's tests of asyncio on Python {version}, {len(chosen)} modules, bare and watched")
    counts = report(comparisons)
    wrong = list(shortcomings(comparisons, counts, TASKS if chosen == found else 0))
    print("\n".join(f"  WRONG: {line}" for line in wrong) or "  every test ended as without the agent")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
