"""aiomysql and asyncmy: what is theirs alone."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import Any

import pytest

from loopwatch import Agent

from .experiment import pool_of, read_under_churn
from .servers import SECRET, login

pytestmark = pytest.mark.parametrize("package", ["aiomysql", "asyncmy"])


@pytest.fixture
def library(package: str) -> Any:
    return pytest.importorskip(package, reason=f"needs: {package}")


def test_all_ways_to_a_connection_are_counted(
    agent: Agent, library: Any, package: str, mariadb_url: str
) -> None:
    server = login(mariadb_url)

    async def main() -> None:
        async with library.create_pool(**server, db="app", minsize=1, maxsize=2) as pool:
            assert (await pool_of(agent, package)).idle == 1
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT DATABASE()")
                assert await cursor.fetchone() == ("app",)
                busy = await pool_of(agent, package)
                assert (busy.used, busy.idle, busy.wait_count) == (1, 0, 1)
            connection = await pool.acquire()
            await pool.release(connection)
            done = await pool_of(agent, package)
            assert (done.used, done.idle, done.wait_count) == (0, 1, 2)
            assert done.label == f"127.0.0.1:{server['port']}/app"

    asyncio.run(main())


def test_everybody_waits_while_a_connection_is_opened(agent: Agent, library: Any, package: str) -> None:
    """The pool's lock is held meanwhile, though there is room for one more."""

    async def main() -> None:
        ready = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ready.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pool = await library.create_pool(host="127.0.0.1", port=port, minsize=0, maxsize=2)
            callers = [asyncio.ensure_future(acquire(pool)) for _ in range(3)]
            await ready.wait()
            slow = await pool_of(agent, package)
            assert (slow.used, slow.connecting, slow.pending) == (0, 1, 2)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            assert (await pool_of(agent, package)).cancelled == 3

    asyncio.run(main())


async def acquire(pool: Any) -> Any:
    return await pool.acquire()


def test_a_subclass_is_counted_once(agent: Agent, library: Any, package: str, mariadb_url: str) -> None:
    base = importlib.import_module(f"{package}.pool").Pool

    class Pool(base):  # type: ignore[misc, valid-type]
        async def _acquire(self) -> Any:
            return await super()._acquire()

    async def main() -> None:
        more = {"loop": asyncio.get_running_loop()} if package == "aiomysql" else {}
        pool = Pool(minsize=0, maxsize=1, echo=False, pool_recycle=-1, **login(mariadb_url), **more)
        pool.release(await pool.acquire())
        found = await pool_of(agent, package)
        assert (found.max, found.created, found.wait_count) == (1, 1, 1)
        pool.close()
        await pool.wait_closed()

    asyncio.run(main())


def test_no_secret_is_shown(
    agent: Agent, library: Any, package: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")

    async def main() -> None:
        settings = {"user": SECRET, "password": SECRET, "init_command": f"SELECT '{SECRET}'"}
        pool = await library.create_pool(host="127.0.0.1", port=1, minsize=0, **settings)
        with pytest.raises(Exception, match="Can't connect"):
            await pool.acquire()
        assert (await pool_of(agent, package)).label == "127.0.0.1:1"

    asyncio.run(main())
    said = [repr(agent.snapshot()), repr(agent.pools()), caplog.text]
    assert not [text for text in said if SECRET in text]


def test_reading_does_not_trip_over_what_goes_on(
    agent: Agent, library: Any, package: str, mariadb_url: str
) -> None:
    async def main() -> None:
        async with library.create_pool(**login(mariadb_url), minsize=0, maxsize=2) as pool:

            async def use() -> None:
                connection = await pool.acquire()
                await asyncio.sleep(0)
                await pool.release(connection)

            await read_under_churn(agent, package, use)

    asyncio.run(main())
