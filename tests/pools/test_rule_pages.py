"""The programs of the pages on rules: of the wrong one its rule tells, of the right one it does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from tests.looks import RULES, look, until_seen

from .test_rules import server

PAGES = Path(__file__).parents[2] / "docs" / "rules"
HALF_A_MINUTE = {"LW206"}
"""Rules whose evidence takes so long to come: see tests/unit/collectors/leaks."""
NEED = {"LW301": "httpx", "LW302": "httpx", "LW303": "psycopg_pool", "LW304": "aiosqlite"}
NEED |= {"LW305": "aiosqlite", "LW307": "httpx", "LW308": "h2"}
WEB, DATABASE = "http://localhost:8000/", "postgresql://localhost/shop"

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def agent(rule: str) -> Iterator[Agent]:
    """An agent that is impatient if the rule is about that. The garbage collector runs only when called."""
    gc.collect()
    gc.disable()
    yield loopwatch.install(prometheus_port=None, hold_threshold=1 if rule in ("LW304", "LW305") else 60)
    loopwatch.uninstall()
    gc.enable()


def programs_of(rule: str) -> list[str]:
    text = (PAGES / f"{rule}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def surroundings(
    rule: str, request: pytest.FixtureRequest, *, wrong: bool
) -> AsyncIterator[dict[str, str]]:
    """Yield what stands in place of the servers that a page names."""
    if rule == "LW303":
        yield {DATABASE: request.getfixturevalue("postgres_url")}
    elif rule == "LW308":
        yield {WEB: request.getfixturevalue("h2_url")(2) + "/delay/3"}
    else:
        async with server() as remote:
            if not wrong or rule == "LW307":
                remote.may.set()  # else it does not answer before the end
            yield {WEB: remote.url}


@asynccontextmanager
async def running(rule: str, request: pytest.FixtureRequest, tmp_path: Path, *, wrong: bool) -> Any:
    """Run one of a page's programs as a task."""
    pytest.importorskip(NEED.get(rule, "asyncio"), reason=f"needs: {NEED.get(rule)}")
    source = programs_of(rule)[0 if wrong else 1]
    async with surroundings(rule, request, wrong=wrong) as there:
        for named, real in there.items():
            source = source.replace(named, real)
        program: dict[str, Any] = {"__name__": "program"}
        exec(compile(source, str(tmp_path / "program.py"), "exec"), program)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        others = asyncio.all_tasks()
        main = asyncio.create_task(program["main"]())
        try:
            yield main
        finally:
            ended = {
                one for one in asyncio.all_tasks() - others if one.get_coro().__qualname__ != "Server.serve"
            }
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
            for connection in program.get("opened", ()):
                await connection.close()


@pytest.mark.parametrize("rule", sorted({rule.id for rule in RULES} - HALF_A_MINUTE))
def test_the_wrong_program(
    rule: str,
    agent: Agent,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with running(rule, request, tmp_path, wrong=True) as program:
            if rule == "LW201":
                await until_seen(agent, "LW204")  # where it stands is known by then
                gc.collect()
            if rule in ("LW202", "LW203"):
                await asyncio.wait([program], timeout=0.05)
            if rule == "LW307":
                await program
                gc.collect()  # clients that are closed live until then, and may be those that there will be
            found = await until_seen(agent, rule)
            assert {symptom.rule for symptom in found} <= {rule, *ALSO.get(rule, ())}

    asyncio.run(main())


ALSO = {"LW302": ("LW301",)}
"""What may be seen beside a rule: the pool is full as the callers give up."""


@pytest.mark.parametrize("rule", sorted(rule.id for rule in RULES))
def test_the_right_program(
    rule: str,
    agent: Agent,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with running(rule, request, tmp_path, wrong=False) as program:
            while not program.done():
                assert rule not in {symptom.rule for symptom in await look(agent)}
                await asyncio.wait([program], timeout=0.1)
            with contextlib.suppress(asyncio.CancelledError):
                program.result()
            gc.collect()
            assert rule not in {symptom.rule for symptom in await look(agent)}

    asyncio.run(main())
