"""Every example runs, and what it provokes is named in time."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.machine import cpu_waited

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMANDS = {
    "analysis_service": ("loopwatch", "demo", "--seconds=5", "--factor=100"),
    "collected_task.py": ("examples.collected_task",),
    "deadlock.py": ("examples.deadlock",),
    "kill_on_deploy.py": ("examples.kill_on_deploy",),
    "leak.py": ("examples.leak", "--leaks=5", "--every=0.5"),  # in full: tests/demo/test_leak.py
    "lost_context.py": ("examples.lost_context",),
    "unseen_failure.py": ("examples.unseen_failure",),
}
"""How each example is run, as ``python -m``."""

NAMED = {
    "collected_task.py": {(1, "destroyed_pending", "ship_once_paid", "__main__.accept")},
    "deadlock.py": {(2, "deadlock", "transfer", "__main__.main")},
    "kill_on_deploy.py": {(1, "cancelled", "send_mail", "__main__.work")},
    "leak.py": {(5, "leaked", "handle", "__main__.accept")},
    "lost_context.py": {
        (1, "context_lost", "charge", "__main__.lose_it"),
        (1, "context_lost", "send_mail", "__main__.lose_it"),
    },
    "unseen_failure.py": {(1, "unretrieved_exception", "send_invoice", "__main__.order")},
}
"""What each of those that lose something says that the agent has named: how many, why, what, and by whom."""
IN_TIME = 5.0
"""Seconds from the loss to the name, by the example's own clock, on a machine with nothing else to do."""
PATIENCE = 60.0
"""Seconds after which the examples give up here, where the machine may be busy, instead of those."""


def test_every_example_is_run_here() -> None:
    assert set(COMMANDS) == {path.name for path in EXAMPLES.iterdir() if path.name[0].islower()}
    assert set(NAMED) == set(COMMANDS) - {"analysis_service"}  # of which tests/demo tells


Program = subprocess.Popen[str]


@pytest.fixture(scope="module")
def waited() -> float:
    """For how long somebody had waited for a CPU before they ran."""
    return cpu_waited()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, waited: float) -> Iterator[dict[str, Program]]:
    """All of them at the same time, as they mostly wait."""
    copies = tmp_path_factory.mktemp("copies")
    (copies / "examples").mkdir()
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text().replace(f"\nIN_TIME = {IN_TIME}\n", f"\nIN_TIME = {PATIENCE}\n")
        (copies / "examples" / path.name).write_text(text)
    with ExitStack() as programs:

        def start(words: Iterable[str]) -> Program:
            program = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=tmp_path_factory.mktemp("example"),
                env=os.environ | {"PYTHONPATH": str(copies)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            programs.enter_context(program)
            programs.callback(program.kill)
            return program

        yield {example: start(words) for example, words in COMMANDS.items()}


@pytest.mark.parametrize("example", COMMANDS)
def test_example_runs(example: str, running: dict[str, Program], waited: float) -> None:
    """It ends with 0, has nothing to complain of, and names what it says it loses."""
    stdout, stderr = running[example].communicate(timeout=120)
    # A request cut short at the end may leave anyio's coroutine.
    complaints = [line for line in stderr.splitlines() if "RuntimeWarning" not in line]
    assert (running[example].returncode, complaints) == (0, [])
    said = re.findall(r"^named after (\S+) s: (\d+) x (\w+): (\S+), by (\S+) \(", stdout, re.MULTILINE)
    assert {(int(count), *rest) for _, count, *rest in said} == NAMED.get(example, set())
    limit = IN_TIME + cpu_waited() - waited
    assert [after for after, *_ in said if float(after) > limit] == []


def test_service_has_one_line_of_loopwatch() -> None:
    """What the demo shows is therefore what any service gets."""
    mentions = [
        (path.name, ast.unparse(node))
        for path in sorted((EXAMPLES / "analysis_service").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.alias | ast.Call) and "loopwatch" in ast.unparse(node)
    ]
    assert mentions == [("app.py", "loopwatch"), ("app.py", "loopwatch.install()")]
