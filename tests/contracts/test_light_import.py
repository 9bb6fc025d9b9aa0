"""``import loopwatch`` loads what works without an agent, ``install()`` the rest, so that no loop has to."""

import json
import subprocess
import sys
import typing

import pytest

import loopwatch

BEFORE = """
import asyncio, json, sys
base = set(sys.modules)
import loopwatch
print(json.dumps(sorted(set(sys.modules) - base)))
"""

AFTERWARDS = """
import asyncio, json, logging, sys
import loopwatch

logging.getLogger("loopwatch").setLevel(logging.CRITICAL)
for otlp in map(bool, map(int, sys.argv[1:])):
    loopwatch.install(prometheus_port=None, hold_dump=False, console_socket=False, otlp=otlp, job_spans=otlp)
installed = set(sys.modules)

async def fail():
    raise ValueError

async def main():
    loopwatch.spawn(fail())
    loopwatch.current_work()
    with loopwatch.restore(loopwatch.carry("item")):
        await loopwatch.drain(60)

asyncio.run(main())
print(json.dumps(sorted(set(sys.modules) - installed)))
"""

WITH_AN_AGENT = {
    "loopwatch._agent",
    "loopwatch._agent_records",
    "loopwatch._engine",
    "loopwatch._events",
    "loopwatch._measures",
    "loopwatch._settings",
    "loopwatch._store.loop_state",
    "loopwatch._store.tasks",
    "loopwatch.facts",
}
"""Half of what an import would take; each also loads others."""

LIBRARIES = {"__future__", "_queue", "_typing", "copy", "dataclasses", "gc", "queue", "typing"}
"""What is imported besides what asyncio imports."""


def modules(program: str, *arguments: str) -> set[str]:
    """Return the names of modules that a program of its own prints."""
    command = [sys.executable, "-c", program, *arguments]
    return set(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def test_what_takes_an_agent_is_not_loaded() -> None:
    loaded = modules(BEFORE)
    assert {"loopwatch", "loopwatch._jobs.spawn"} <= loaded
    assert loaded & WITH_AN_AGENT == set()
    assert {name for name in loaded if not name.startswith("loopwatch")} <= LIBRARIES


@pytest.mark.parametrize("otlp", ["0", "1"])
def test_nothing_is_loaded_in_a_loop_after_install(otlp: str) -> None:
    """It would block the loop, for as long as a stall may last on a busy machine."""
    assert modules(AFTERWARDS, otlp) == set()


def test_nor_without_an_agent() -> None:
    """What drains, for one, would be missing if a deploy had replaced our files by then."""
    assert modules(AFTERWARDS) == set()


def test_records_of_an_agent_are_there_when_asked_for() -> None:
    names = "Agent", "Point", "Stall", "facts"
    program = f"""
import json
import loopwatch
from loopwatch import *
from loopwatch import facts
print(json.dumps([name for name in {names!r} if globals()[name] is getattr(loopwatch, name)]))
"""
    assert modules(program) == set(names)


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'loopwatch' has no attribute 'Stalls'"):
        loopwatch.Stalls  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["install", "installed", "spawn", "drain", "drain_lifespan", "current_work"])
def test_annotations_can_be_evaluated(name: str) -> None:
    """As pydantic and FastAPI do."""
    program = f"""
import json, typing
import loopwatch
print(json.dumps(["return"] if typing.get_type_hints(getattr(loopwatch, {name!r}))["return"] else []))
"""
    assert modules(program) == {"return"}


@pytest.mark.parametrize("view", ["snapshot", "stalls", "tasks", "lost", "pools", "findings", "drains"])
def test_those_of_views_too(view: str) -> None:
    assert typing.get_type_hints(getattr(loopwatch.Agent, view))["return"]
