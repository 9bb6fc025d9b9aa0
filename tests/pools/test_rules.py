"""Programs with real libraries whose pools are short, or as they should be: what the rules see of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch._rules.rule import Symptom
from loopwatch._rules.shortage import LONG
from tests.looks import look, symptoms, until_seen

from .experiment import silent_server

httpx = pytest.importorskip("httpx", reason="needs: httpx")


def one(found: list[Symptom], rule: str) -> Symptom:
    """Return the only symptom, which is of that rule."""
    assert [symptom.rule for symptom in found] == [rule], [symptom.summary for symptom in found]
    return found[0]


class Server:
    """Answers HTTP/1.1 once it may."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = asyncio.Semaphore(0)
        """Released by each request that has arrived."""
        self.may = asyncio.Event()
        self._connections: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked.release()
                await self.may.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    async def until_asked(self, times: int) -> None:
        for _ in range(times):
            await self.asked.acquire()

    async def end(self) -> None:
        self.may.set()
        await asyncio.gather(*filter(None, self._connections))


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as listening:
        found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield found
        await found.end()


def client_of(connections: int, pool: float = 60.0) -> Any:
    limits = httpx.Limits(max_connections=connections)
    return httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(60, pool=pool), trust_env=False)


def test_a_saturated_httpx_pool_and_its_timeouts(agent: Agent) -> None:
    async def analyse(client: Any, url: str) -> None:
        await client.get(url)

    async def main() -> None:
        async with server() as remote, client_of(3, pool=30) as client:
            tasks = [asyncio.create_task(analyse(client, remote.url)) for _ in range(20)]
            await remote.until_asked(3)
            symptom = one(await until_seen(agent, "LW301"), "LW301")
            assert symptom.key[0] == "httpcore"
            assert symptom.key[1].startswith(f"{__name__}:")
            assert (
                "is full: 3 of 3 connections are in use, and 17 callers wait, the oldest for"
                in symptom.summary
            )
            assert (
                "held longest by `test_a_saturated_httpx_pool_and_its_timeouts.<locals>.analyse`"
                in symptom.summary
            )
            assert "which stands at `test_a_saturated_httpx" in symptom.summary
            assert (symptom.evidence["used"], symptom.evidence["max"], symptom.evidence["pending"]) == (
                3,
                3,
                17,
            )
            assert 1.0 <= symptom.evidence["oldest_wait_s"] < 30
            assert "raise max_connections above 3 (limits=httpx.Limits(max_connections=...))" in symptom.fix
            assert "17 wait" in symptom.fix
            remote.may.set()
            await asyncio.gather(*tasks)
            assert await look(agent) == []  # nobody waits any more
            remote.may.clear()
            late = [asyncio.create_task(analyse(client, remote.url)) for _ in range(3)]
            await asyncio.sleep(0)  # these come first
            with pytest.raises(httpx.PoolTimeout):
                await client.get(remote.url, timeout=httpx.Timeout(60, pool=0.05))
            refused = one(await until_seen(agent, "LW302"), "LW302")
            assert "1 caller of the httpx pool" in refused.summary
            assert (refused.evidence["timeouts"], refused.severity) == (1, "critical")
            remote.may.set()
            await asyncio.gather(*late)

    asyncio.run(main())


def test_a_server_that_opens_no_connection(agent: Agent) -> None:
    """Such as one behind a network that drops what is sent: a higher limit would not help."""

    async def main() -> None:
        async with silent_server() as (port, until_connected), client_of(2) as client:
            url = f"https://127.0.0.1:{port}/"  # nobody answers the handshake
            tasks = [asyncio.create_task(client.get(url)) for _ in range(6)]
            await until_connected(2)
            symptom = one(await until_seen(agent, "LW301"), "LW301")
            assert "is full: 0 of 2 connections are in use and 2 being opened, and 4 callers wait" in (
                symptom.summary
            )
            assert symptom.fix.startswith("find out why no connection opens")
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    asyncio.run(main())


def test_a_pool_that_is_full_for_a_moment_is_well_used(agent: Agent) -> None:
    async def main() -> None:
        async with server() as remote, client_of(5) as client:
            for _ in range(3):
                remote.may.clear()
                tasks = [asyncio.create_task(client.get(remote.url)) for _ in range(8)]
                found = await look(agent)  # on a slow machine it may take its time
                assert all(one.evidence["oldest_wait_s"] >= LONG for one in found), found
                remote.may.set()
                await asyncio.gather(*tasks)
                assert await look(agent) == []

    asyncio.run(main())


def test_a_client_for_each_request(agent: Agent) -> None:
    async def handle(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)

    async def main() -> None:
        async with server() as remote:
            remote.may.set()
            for number in range(25):
                await handle(remote.url)
                if number == 10:
                    assert await look(agent) == []
            gc.collect()  # clients are cycles, and count until they are collected
            symptom = one(await look(agent), "LW307")
            assert "25 of httpx.AsyncClient were made" in symptom.summary
            assert "for 25 uses of them" in symptom.summary
            assert symptom.evidence == {"created": 25, "uses": 25, "instances": symptom.evidence["instances"]}
            assert symptom.evidence["instances"] < 5

    asyncio.run(main())


def test_a_client_for_all_requests_and_many_made_at_the_start(agent: Agent) -> None:
    async def main() -> None:
        async with server() as remote, contextlib.AsyncExitStack() as stack:
            remote.may.set()
            clients = [
                await stack.enter_async_context(client_of(5)) for _ in range(25)
            ]  # one for each tenant
            for client in clients:
                await client.get(remote.url)
            assert await look(agent) == []
            for _ in range(100):
                await clients[0].get(remote.url)
            assert await look(agent) == []

    asyncio.run(main())


def test_http2_streams_are_exhausted(agent: Agent, h2_url: Callable[[int], str]) -> None:
    pytest.importorskip("h2", reason="needs: h2")

    async def main() -> None:
        async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=60) as client:
            url = f"{h2_url(2)}/behind/nothing"
            tasks = [asyncio.create_task(client.get(url)) for _ in range(8)]
            symptom = one(await until_seen(agent, "LW308"), "LW308")
            assert "6 callers of the httpx pool" in symptom.summary
            assert "though only 1 of 100 connections are open" in symptom.summary
            assert (symptom.evidence["used"], symptom.evidence["pending"]) == (1, 6)
            assert symptom.evidence["oldest_wait_s"] >= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """Two connections to a database in a file, of which none may be waited for longer than 60 s."""
    pytest.importorskip("aiosqlite", reason="needs: aiosqlite")
    aio = pytest.importorskip("sqlalchemy.ext.asyncio", reason="needs: SQLAlchemy[asyncio]")
    pool = pytest.importorskip("sqlalchemy.pool")
    return aio.create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path}/test.db",
        poolclass=pool.AsyncAdaptedQueuePool,
        pool_size=2,
        max_overflow=0,
        pool_timeout=60,
    )


def test_a_saturated_sqlalchemy_pool(agent: Agent, engine: Any) -> None:
    leave = asyncio.Event()

    async def report() -> None:
        async with engine.connect():
            await leave.wait()

    async def main() -> None:
        tasks = [asyncio.create_task(report()) for _ in range(7)]
        symptom = one(await until_seen(agent, "LW301"), "LW301")
        assert "the SQLAlchemy pool" in symptom.summary
        assert "2 of 2 connections are in use, and 5 callers wait" in symptom.summary
        assert "waiting for Event.wait" in symptom.summary
        assert "raise pool_size + max_overflow above 2" in symptom.fix
        leave.set()
        await asyncio.gather(*tasks)
        await engine.dispose()
        assert await look(agent) == []

    asyncio.run(main())


def test_holders_that_wait_for_a_second_connection(agent: Agent, engine: Any) -> None:
    async def transfer() -> None:
        async with engine.connect():
            await asyncio.sleep(0.05)
            async with engine.connect():
                pass

    async def main() -> None:
        tasks = [asyncio.create_task(transfer()) for _ in range(2)]
        symptom = one(await until_seen(agent, "LW301"), "LW301")
        assert "every holder waits for a second connection of it" in symptom.summary
        assert symptom.severity == "critical"
        assert symptom.evidence["holders_that_wait"] == 2
        assert "take one connection in each task" in symptom.fix
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.dispose()

    asyncio.run(main())


def test_a_pool_is_full_because_the_loop_stands_still(agent: Agent, engine: Any) -> None:
    async def report() -> None:
        async with engine.connect():
            time.sleep(0.4)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(report())
        await engine.dispose()

    seen: list[Symptom] = []

    def watch() -> None:
        while not any(one.rule == "LW301" for one in seen) and running.is_alive():
            seen.extend(symptoms(agent.snapshot()))
            ended.wait(0.05)

    ended = Event()
    running = Thread(target=asyncio.run, args=(main(),))
    watching = Thread(target=watch)
    running.start()
    watching.start()
    running.join()
    ended.set()
    watching.join()
    symptom = next(one for one in seen if one.rule == "LW301")
    # Or there is no CPU to go on, or to watch: then it is starved, suspended or nothing that can be told.
    assert symptom.because in ("LW102", "LW107", "LW108", "LW109"), (symptom, agent.stalls())
    assert symptom.evidence["oldest_wait_s"] >= LONG


@pytest.mark.parametrize(
    ("limits", "words", "remedy"),
    [
        ({"limit": 2}, "is full: 2 of 2 connections are in use", "raise limit above 2 "),
        (
            {"limit": 100, "limit_per_host": 2},
            "has 2 of 100 connections in use, yet the limit for one host is full",
            "raise limit_per_host (",
        ),
    ],
)
def test_an_aiohttp_connector(agent: Agent, limits: dict[str, int], words: str, remedy: str) -> None:
    aiohttp = pytest.importorskip("aiohttp", reason="needs: aiohttp")
    if limits["limit"] > 2 and not hasattr(aiohttp.BaseConnector, "_wait_for_available_connection"):
        pytest.skip("aiohttp before 3.10 is read without its waits, so a full host is not told")

    async def main() -> None:
        async with (
            server() as remote,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session,
        ):

            async def fetch() -> None:
                async with session.get(remote.url) as response:
                    await response.read()

            tasks = [asyncio.create_task(fetch()) for _ in range(6)]
            await remote.until_asked(2)
            symptom = one(await until_seen(agent, "LW301"), "LW301")
            assert words in symptom.summary
            assert "and 4 callers wait" in symptom.summary
            assert symptom.fix.startswith(remedy)
            remote.may.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())


def test_the_limit_of_synchronous_endpoints(agent: Agent) -> None:
    to_thread = pytest.importorskip("anyio.to_thread", reason="needs: anyio")
    leave = Event()

    async def main() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 2
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(to_thread.run_sync(leave.wait, 30))
            symptom = one(await until_seen(agent, "LW306"), "LW306")
            leave.set()
        assert "all 2 threads of the anyio limiter `default` are at work and 3 calls wait" in symptom.summary
        assert "raise total_tokens above 2" in symptom.fix

    asyncio.run(main())


def test_a_default_executor_that_is_full(agent: Agent) -> None:
    leave = Event()

    def resize() -> None:
        leave.wait(30)

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2, thread_name_prefix="asyncio"))
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(asyncio.to_thread(resize))
            symptom = one(await until_seen(agent, "LW306"), "LW306")
            leave.set()
        assert symptom.key == ("thread_pool", "default")
        assert "all 2 threads of the executor `default` are at work and 4 calls wait" in symptom.summary
        assert "DNS" in symptom.summary
        assert (symptom.evidence["used"], symptom.evidence["max"], symptom.evidence["pending"]) == (2, 2, 4)
        assert "set_default_executor" in symptom.fix
        assert await look(agent) == []

    asyncio.run(main())


@pytest.fixture
def impatient() -> Iterator[Agent]:
    """An agent for which a second is too long to hold a connection."""
    yield loopwatch.install(prometheus_port=None, hold_threshold=1)
    loopwatch.uninstall()


def test_connections_held_for_long_and_by_nobody(impatient: Agent, engine: Any) -> None:
    leave = asyncio.Event()

    async def listen() -> None:
        async with engine.connect():
            await leave.wait()

    async def take_along(taken: list[Any]) -> None:
        taken.append(await engine.connect())

    async def main() -> None:
        taken: list[Any] = []
        listening = asyncio.create_task(listen())
        await asyncio.create_task(take_along(taken))
        await until_seen(impatient, "LW304")
        held, nobody = await until_seen(impatient, "LW305")
        assert (held.rule, nobody.rule) == ("LW304", "LW305")
        assert "1 connection of the SQLAlchemy pool" in held.summary
        assert (
            "longest by `test_connections_held_for_long_and_by_nobody.<locals>.listen`, for " in held.summary
        )
        assert "waiting for Event.wait" in held.summary
        assert "held by nobody who could give them back: acquired by `test_conn" in nobody.summary
        assert "that task has ended" in nobody.summary
        assert nobody.severity == "warning"  # nobody waits
        for symptom in (held, nobody):
            assert 1.0 <= symptom.evidence["held_s"] < 30
        leave.set()
        await listening
        await taken[0].close()
        async with asyncio.timeout(120):
            while await look(impatient):
                await asyncio.sleep(0.05)
        await engine.dispose()

    asyncio.run(main())


def test_an_executor_that_is_busy_and_has_no_queue(agent: Agent) -> None:
    leave = Event()

    async def main() -> None:
        with ThreadPoolExecutor(3, thread_name_prefix="resizer") as executor:
            loop = asyncio.get_running_loop()
            busy = [loop.run_in_executor(executor, leave.wait, 30) for _ in range(3)]
            for _ in range(30):
                assert await look(agent) == []
                await asyncio.sleep(0.05)
            leave.set()
            await asyncio.gather(*busy)

    asyncio.run(main())
