"""Arguments, locals, messages of exceptions and variables that are not watched are never shown."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._console.commands import ALL
from loopwatch._consoles import Client
from loopwatch._document import PATH

from .conftest import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Python has no UNIX sockets there")

SECRET = "hunter2-pl4nted"
ASKED = ("task 1", "stall 1", "leaks 1", "pool 1", "tasks state=error", "tasks by=site", "tree of=creators")
"""Commands with words, besides all there are without."""

unwatched = contextvars.ContextVar("unwatched", default="")


class Login:
    """Has a secret, and shows it to whoever asks for its repr."""

    def __init__(self, password: str) -> None:
        self.password = password

    def __repr__(self) -> str:
        return f"Login({self.password})"

    async def waits(self, password: str) -> None:
        bearer = f"Bearer {password}"
        await asyncio.Event().wait()
        print(bearer)

    async def fails(self, password: str) -> None:
        raise PermissionError(f"{password} is wrong")

    def blocks(self, password: str) -> None:
        time.sleep(0.2)
        assert password


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_no_way_out_has_a_secret(
    install: Callable[..., Agent], run: Callable[[Coroutine[Any, Any, dict[str, str]]], dict[str, str]]
) -> None:
    agent = install(prometheus_port=0)

    def ask() -> dict[str, str]:
        assert agent.prometheus_url is not None
        assert agent.console_path is not None
        with closing(Client(agent.console_path, PATIENCE)) as client:
            answers = {line: client.ask(line) for line in (*(command.name for command in ALL), *ASKED)}
        for url in (agent.prometheus_url, agent.prometheus_url.replace("/metrics", PATH)):
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                answers[url] = answer.read().decode()
        return answers

    async def main() -> dict[str, str]:
        async with asyncio.timeout(PATIENCE):
            while agent.prometheus_url is None or agent.console_path is None:
                await asyncio.sleep(0.01)
        unwatched.set(SECRET)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # asyncio's own line
        login = Login(SECRET)
        held = [asyncio.create_task(login.waits(SECRET)) for _ in range(3)]
        loopwatch.spawn(login.waits(SECRET), name="job")
        with suppress(PermissionError):
            await asyncio.create_task(login.fails(SECRET))
        asyncio.create_task(login.fails(SECRET))  # noqa: RUF006 - it is to be lost
        async with asyncio.timeout(PATIENCE):
            while not any(stall.call == "time.sleep" for stall in agent.stalls()):
                login.blocks(SECRET)
                await asyncio.sleep(0.01)
            while not agent.lost():
                await asyncio.sleep(0.01)
                gc.collect()  # on Python 3.12 and 3.13 an eager task that failed is in a cycle of asyncio's
        answers = await asyncio.to_thread(ask)
        assert not any(task.done() for task in held)
        return answers

    answers = run(main())
    seen = "\n".join(answers.values())
    assert "Login.waits" in seen  # what is told of them
    assert "PermissionError" in seen
    assert "Login.blocks" in seen
    assert [asked for asked, answer in answers.items() if SECRET in answer] == []
