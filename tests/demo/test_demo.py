"""``loopwatch demo`` from outside: what the agent says of real faults, and that nobody else says it."""

import re
import signal
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from analysis_service.settings import Fault

from loopwatch._agent_records import Cause, LostReason

from .programs import Program

PROVOKED = {
    Fault.JSON: ("cpu", "analysis_service.answers.parse", "json.loads"),
    Fault.REPORT: ("cpu", "analysis_service.answers.merge", "ratio"),
    Fault.RETRY: ("blocking", "analysis_service.llm.LLM.ask", "time.sleep"),
}
"""The faults that stall the loop, with the cause, the function and the call to be named."""
TOLD_AS = {"cpu": {"cpu", "starved"}, "blocking": {"blocking", "starved"}}
"""What may be told for a cause: the loop is starved, too, where it waits for a CPU for most of a stall."""
JOBS = r"created by analysis_service\.jobs\.Jobs\.start"
LOST = {
    Fault.FORGET: [
        rf"lost unretrieved_exception  Workflow\._run {JOBS}: \w+$",
        rf"lost (unreferenced|destroyed_pending)  Workflow\._index_once_settled {JOBS}$",
    ],
    Fault.CONTEXT: [
        r"lost context_lost  Store\.settle runs without request_id, handed over by \S+\.Workflow\._settle$",
        r"lost context_lost  Index\._write runs without request_id, handed over by \S+\.Index\.add$",
    ],
}
"""Those that lose something, with the lines that name it."""
SHORT = r"httpcore pool analysis_service\.workflow:\d+: 5 of 5 used, \d+ wait, the oldest for \S+ m?s$"
"""The line that names the pool that 200 jobs share."""
LEFT = rf"\d abandoned  Workflow\._run {JOBS}, stood at \S+, the oldest for .* request_id \w{{32}}$"
"""The line that names what a deploy kills."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start the demo in an empty directory; left to itself, it would run for long."""
    with ExitStack() as opened:

        def start(*options: str, **environ: str) -> Program:
            words = ("loopwatch", "demo", "--seconds=900", *options)
            return Program(opened, tmp_path, *words, **environ)

        yield start
        assert not list(tmp_path.iterdir())


def told(fault: Fault) -> str:
    """The pattern of the line that names what ``fault`` did."""
    cause, function, call = PROVOKED[fault]
    causes = "|".join(TOLD_AS[cause])
    return rf"main stalled \S+ \S+  ({causes})  {re.escape(function)} in {re.escape(call)}$"


def reasons(text: str) -> set[str]:
    """Why anything was lost, of all that was told or counted."""
    return {reason for reason in typing.get_args(LostReason) if re.search(rf"\b{reason}\b", text)}


def summary(text: str) -> set[tuple[str, str, str]]:
    """The rows of the summary's table, as cause, function and call."""
    table = text.partition("the agent says:")[2]
    rows = re.findall(r"^  ([\w.]+) +\d+ +([\w.]+) +(\w+) +\d+ ", table, re.MULTILINE)
    return {(cause, function, call) for function, call, cause in rows}


def test_names_everything_it_provokes(demo: Callable[..., Program]) -> None:
    """All faults on: each is named, with its stack, while it runs and at the end."""
    running = demo()
    lost = [line for lines in LOST.values() for line in lines]
    text = running.line(*map(told, PROVOKED), *lost, SHORT, "metrics at http://127.0.0.1:")
    text += running.end(signal.SIGINT)
    assert running.status == 0
    rows = summary(text)
    for cause, function, call in PROVOKED.values():
        assert {found for found, *named in rows if named == [function, call]} & TOLD_AS[cause], rows
        assert f"> {function} " in text
    for line in lost:
        assert len(re.findall(line, text, re.MULTILINE)) <= 3  # by exception, not by job
    assert re.search(r"lost in all: .*\d\d unretrieved_exception", text)


@pytest.mark.parametrize("fault", PROVOKED)
def test_names_only_the_stall_that_is_on(demo: Callable[..., Program], fault: Fault) -> None:
    """And no loss: what the service does besides is right."""
    running = demo(f"--faults={fault.name.lower()}")
    text = running.line(told(fault))
    text += running.end(signal.SIGINT)
    named = {(function, call) for _, function, call in summary(text)}
    others = {provoked[1:] for other, provoked in PROVOKED.items() if other is not fault}
    assert not named & others
    assert not reasons(text)
    assert "httpcore pool" not in text
    assert "at shutdown no work was left" in text


def test_names_the_pool_that_is_too_small(demo: Callable[..., Program]) -> None:
    """With who has its connections, for how long, where and for whom; at the end, how many gave up."""
    running = demo("--faults=pool")
    text = running.line(SHORT)
    text += running.line("sent")  # the batch is over by then
    text += running.end(signal.SIGINT)
    borrowers = text.partition("5 of 5 used")[2].partition("\n")[2]
    held = r"\s+held for \S+ m?s by task \S+, LLM\.ask, request_id \w{32}, stands at\s+\S+/llm\.py:"
    assert re.match(held, borrowers)
    row = re.search(
        r"^  analysis_service\.workflow:\d+ +httpcore +\d +5 +\d+ +(\d+) .* (\d+)$", text, re.MULTILINE
    )
    assert row is not None
    acquires, timeouts = map(int, row.groups())
    assert 10 < timeouts < acquires  # of 200 jobs, as many as a busy machine had under way by then
    assert not reasons(text)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault.FORGET, {"unretrieved_exception", "unreferenced", "destroyed_pending"}),
        (Fault.CONTEXT, {"context_lost"}),
    ],
)
def test_names_only_the_loss_that_is_on(
    demo: Callable[..., Program], fault: Fault, named: set[LostReason]
) -> None:
    """Each of its kinds, with whose request it was; and none of its stalls."""
    running = demo(f"--faults={fault.name.lower()}")
    text = running.line(*LOST[fault])
    text += running.end(signal.SIGINT)
    assert reasons(text) <= named
    for line in LOST[fault]:
        told = re.search(rf"{line}\n(?P<details>( {{12}}.*\n)+)", text, re.MULTILINE)
        assert told is not None
        assert re.search(r"request_id\s+\w{32}", told["details"])
    assert not {row[1:] for row in summary(text)} & {provoked[1:] for provoked in PROVOKED.values()}


def test_names_the_jobs_that_a_deploy_kills(demo: Callable[..., Program]) -> None:
    """And loses nothing before. The LLM is so slow here that no document is done when the end comes."""
    running = demo("--faults=deploy", "--factor=3")
    text = running.line(r" [1-9]\d* accepted")
    text += running.end(signal.SIGINT)
    assert re.search(LEFT, text, re.MULTILINE)
    assert not reasons(text)


def test_without_the_agent_nothing_is_named(demo: Callable[..., Program]) -> None:
    """All faults on, the agent off: what is left does not say that there is one, nor where or why."""
    running = demo(LOOPWATCH_DISABLED="1")
    text = running.line(r" [2-9]\d\d accepted")  # a batch, too, which sets off the last of them
    text += running.end(signal.SIGINT)
    assert running.status == 0
    assert "it watches no event loop" in text
    words = {fault.name.lower() for fault in Fault} | set(typing.get_args(Cause)) | {"stall", "stalled"}
    words |= {*typing.get_args(LostReason), "lost", "abandoned", "cancelled", "shutdown", "Workflow", "Jobs"}
    words |= {word for _, function, call in PROVOKED.values() for word in f"{function}.{call}".split(".")}
    words -= {"analysis_service", "answers", "llm"}
    words = {word.lower() for word in words}
    assert not words & set(re.findall(r"\w+", text.lower()))


def test_lists_its_faults(demo: Callable[..., Program]) -> None:
    text = demo("--list-faults").end()
    assert [line.split()[0] for line in text.splitlines()] == [fault.name.lower() for fault in Fault]


def test_ends_by_itself(demo: Callable[..., Program]) -> None:
    """When its time is up it lets the jobs finish, says so in a summary and exits with 0."""
    running = demo("--seconds=3", "--faults=none", "--factor=100")
    text = running.end()
    assert "the agent says:" in text
    assert "at shutdown no work was left" in text
    assert not reasons(text)
    assert running.status == 0
