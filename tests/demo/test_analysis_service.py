"""The demo's service really makes the mistakes it is told to make, and otherwise gets it right.

No agent is involved: the service's own log and database show it.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from analysis_service.answers import merge, parse
from analysis_service.settings import Fault
from analysis_service.store import Store

from tests.pools.servers import free_port

from .conftest import EXAMPLES
from .programs import Program

SCALE = "50"


class Situation:
    """A service with faults, its clients and its LLM, all running."""

    def __init__(self, opened: ExitStack, directory: Path, faults: tuple[Fault, ...]) -> None:
        llm = Program(opened, EXAMPLES, "analysis_service.standin", "--port=0", f"--scale={SCALE}")
        port = free_port()
        self.database = directory / "analysis.db"
        self.service = Program(
            opened,
            EXAMPLES,
            "analysis_service",
            f"--port={port}",
            LOOPWATCH_DISABLED="1",
            ANALYSIS_LLM_URL=llm.line("http://").strip(),
            ANALYSIS_DATABASE=str(self.database),
            ANALYSIS_SCALE=SCALE,
            ANALYSIS_FAULTS=",".join(fault.name.lower() for fault in faults) or "none",
        )
        self.service.line("Uvicorn running")
        url = f"http://127.0.0.1:{port}"
        self.clients = Program(opened, EXAMPLES, "analysis_service.load", url, "--first-batch=0")

    def totals(self) -> dict[str, int]:
        """Count the documents in the database by status."""
        return Store(self.database).totals()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Situation]]:
    with ExitStack() as opened:
        yield lambda *faults: Situation(opened, tmp_path, faults)


def test_does_it_right_without_faults(start: Callable[..., Situation]) -> None:
    """Deep documents become reports, answers cut short become failures, shutdown leaves nothing undone."""
    running = start()
    running.service.line("request .{32}: document .* is searchable")
    running.service.line("JSONDecodeError")
    running.service.end(signal.SIGTERM)
    assert running.totals().keys() == {"Done", "Failed"}


def test_small_pool_times_out(start: Callable[..., Situation]) -> None:
    """Of 200 jobs at once, some wait in vain for one of five connections."""
    start(Fault.POOL).service.line("PoolTimeout")


def test_forgotten_tasks_are_lost(start: Callable[..., Situation]) -> None:
    """Nobody retrieves a job's exception; who waits for that job is collected, and the document stays."""
    running = start(Fault.FORGET)
    running.service.line("Task exception was never retrieved")
    running.service.line("Task was destroyed but it is pending")
    running.service.end(signal.SIGTERM)
    assert running.totals()["Processing"] > 0


def test_context_is_lost_on_the_way(start: Callable[..., Situation]) -> None:
    """Neither what the executor runs nor what the queue worker starts knows the request id."""
    running = start(Fault.CONTEXT)
    read = running.service.line("document .* is Done", "document .* is searchable")
    assert set(re.findall("request (.+): document .* is (?:Done|searchable)", read)) == {"-"}


def test_shutdown_without_waiting_kills_jobs(start: Callable[..., Situation]) -> None:
    """What was under way stays in the database as if somebody were still at it."""
    running = start(Fault.DEPLOY)
    running.clients.line(" [1-9][0-9]* accepted")
    running.service.end(signal.SIGTERM)
    assert running.totals()["Processing"] > 0


@pytest.mark.parametrize("fault", [Fault.JSON, Fault.REPORT, Fault.RETRY])
def test_blocking_faults_still_give_reports(start: Callable[..., Situation], fault: Fault) -> None:
    """They make the service slow, not wrong."""
    running = start(fault)
    running.service.line("document .* is Done")
    running.clients.line("2[0-9]{2} accepted")


def test_report_leaves_out_what_is_said_twice() -> None:
    same, other = "notice within thirty days", "liability is limited to damages"
    assert merge([[same], [same + ".", other]]) == f"- {same}\n- {other}"


def test_answer_cut_short_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unterminated"):
        parse([b'{"choices": [{"message": {"content": "{\\"findings\\": [\\"no"}}]}'])


@pytest.mark.parametrize(
    ("text", "faults"),
    [("all", set(Fault)), ("none", set()), ("json", {Fault.JSON}), ("json, pool", {Fault.JSON, Fault.POOL})],
)
def test_faults_are_switched_on_one_by_one(text: str, faults: set[Fault]) -> None:
    assert Fault.parse(text) == faults
