"""``loopwatch demo`` from outside: what the agent says of real faults, and that nobody else says it."""

import re
import signal
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from analysis_service.settings import Fault

from loopwatch._records import Cause

from .programs import Program

PROVOKED = {
    Fault.JSON: ("cpu", "analysis_service.answers.parse", "json.loads"),
    Fault.REPORT: ("cpu", "analysis_service.answers.merge", "ratio"),
    Fault.RETRY: ("blocking", "analysis_service.llm.LLM.ask", "time.sleep"),
}
"""The faults that stall the loop, with the cause, the function and the call to be named."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start the demo in an empty directory; left to itself, it would run for long."""
    with ExitStack() as opened:

        def start(*options: str, **environ: str) -> Program:
            words = ("loopwatch", "demo", "--seconds=300", *options)
            return Program(opened, tmp_path, *words, **environ)

        yield start
        assert not list(tmp_path.iterdir())


def told(fault: Fault) -> str:
    """The pattern of the line that names what ``fault`` did."""
    cause, function, call = PROVOKED[fault]
    return rf"main stalled \S+ \S+  {cause}  {re.escape(function)} in {re.escape(call)}$"


def summary(text: str) -> set[tuple[str, str, str]]:
    """The rows of the summary's table, as cause, function and call."""
    table = text.partition("the agent says:")[2]
    rows = re.findall(r"^  ([\w.]+) +\d+ +([\w.]+) +(\w+) +\d+ ", table, re.MULTILINE)
    return {(cause, function, call) for function, call, cause in rows}


def test_names_every_stall_it_provokes(demo: Callable[..., Program]) -> None:
    """All faults on: each that stalls the loop is named, with its stack, while it runs and at the end."""
    running = demo()
    text = running.line(*map(told, PROVOKED), "metrics at http://127.0.0.1:")
    text += running.end(signal.SIGINT)
    assert running.status == 0
    assert summary(text) >= set(PROVOKED.values())
    for _, function, _ in PROVOKED.values():
        assert f"> {function} " in text


@pytest.mark.parametrize("fault", PROVOKED)
def test_names_only_the_fault_that_is_on(demo: Callable[..., Program], fault: Fault) -> None:
    running = demo(f"--faults={fault.name.lower()}")
    running.line(told(fault))
    named = {(function, call) for _, function, call in summary(running.end(signal.SIGINT))}
    others = {provoked[1:] for other, provoked in PROVOKED.items() if other is not fault}
    assert not named & others


def test_without_the_agent_nothing_is_named(demo: Callable[..., Program]) -> None:
    """All faults on, the agent off: what is left does not say that there is one, nor where or why."""
    running = demo("--seconds=8", LOOPWATCH_DISABLED="1")
    text = running.end()
    assert running.status == 0
    assert "accepted" in text
    assert "it watches no event loop" in text
    words = {fault.name.lower() for fault in Fault} | set(typing.get_args(Cause)) | {"stall", "stalled"}
    words |= {word for _, function, call in PROVOKED.values() for word in f"{function}.{call}".split(".")}
    words -= {"analysis_service", "answers", "llm"}
    assert not words & set(re.findall(r"\w+", text.lower()))


def test_lists_its_faults(demo: Callable[..., Program]) -> None:
    text = demo("--list-faults").end()
    assert [line.split()[0] for line in text.splitlines()] == [fault.name.lower() for fault in Fault]


def test_ends_by_itself(demo: Callable[..., Program]) -> None:
    """When its time is up it lets the jobs finish, says so in a summary and exits with 0."""
    running = demo("--seconds=3", "--faults=none", "--factor=100")
    assert "the agent says:" in running.end()
    assert running.status == 0
