"""SQLAlchemy, sync and async: what is not as in every library."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Pool

from .experiment import pool_of, silent_server, ten_callers_of_two
from .servers import SECRET, login

sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs: SQLAlchemy")
aio = pytest.importorskip("sqlalchemy.ext.asyncio", reason="needs: SQLAlchemy[asyncio]")
asyncpg = pytest.importorskip("asyncpg", reason="needs: asyncpg")

KIND = "sqlalchemy"


def engine_of(url: str, size: int = 2, beyond: int = 0, **options: Any) -> Any:
    return aio.create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=size, max_overflow=beyond, **options
    )


def threaded(postgres_url: str, **options: Any) -> Any:
    pytest.importorskip("psycopg", reason="needs: psycopg")
    if sqlalchemy.__version__ < "2":
        pytest.skip("SQLAlchemy 1.4 has no dialect for psycopg 3")
    return sqlalchemy.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"), **options)


@pytest.mark.parametrize(("server", "driver"), [("postgres_url", "asyncpg"), ("mariadb_url", "aiomysql")])
def test_ten_callers_of_two(agent: Agent, server: str, driver: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip(driver, reason=f"needs: {driver}")
    scheme, _, rest = request.getfixturevalue(server).partition(":")

    async def main() -> None:
        engine = aio.create_async_engine(f"{scheme}+{driver}:{rest}", pool_size=2, max_overflow=0)

        async def acquire() -> Any:
            return await engine.connect()

        done = await ten_callers_of_two(agent, KIND, acquire, lambda connection: connection.close())
        host = login(request.getfixturevalue(server))
        assert done.label.startswith(f"{scheme}://{host['host']}:{host['port']}/")
        await engine.dispose()

    asyncio.run(main())


def test_timeouts_and_cancellations_are_counted_exactly(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        engine = engine_of(postgres_url, pool_timeout=0.05)
        held = [await engine.connect() for _ in range(2)]
        for _ in range(4):
            with pytest.raises(sqlalchemy.exc.TimeoutError):
                await engine.connect()
        waiting = [asyncio.create_task(engine.connect().start()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        found = await pool_of(agent, KIND)
        assert (found.timeouts, found.cancelled, found.wait_count) == (4, 3, 2 + 4 + 3)
        assert found.wait_sum is not None
        assert found.wait_sum >= 4 * 0.05
        for connection in held:
            await connection.close()
        await engine.dispose()

    asyncio.run(main())


def test_an_engine_that_nobody_used_is_not_touched(agent: Agent, postgres_url: str) -> None:
    """To ask its pool how full it is makes the queue, here in another thread than its own."""

    async def main() -> None:
        engine = engine_of(postgres_url)
        async with engine.connect():
            pass
        await engine.dispose()  # the next pool is as new
        [binding] = agent._engine._hub.of(KIND)
        sample = await asyncio.to_thread(binding.reader.read, engine.pool)
        assert (sample.max, sample.used, sample.idle, sample.pending) == (2, 0, 0, 0)
        assert "_queue" not in vars(engine.pool._pool)

    asyncio.run(main())


def test_the_pool_after_dispose_goes_on_under_the_same_label(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        engine = engine_of(postgres_url)
        for n in range(1, 4):
            async with engine.connect():
                found = await pool_of(agent, KIND)
                assert (found.created, found.wait_count, found.used) == (n, n, 1)
            await engine.dispose()
            gc.collect()

    asyncio.run(main())


def test_overflow(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        engine = engine_of(postgres_url, size=1, beyond=2)
        held = [await engine.connect() for _ in range(3)]
        found = await pool_of(agent, KIND)
        assert (found.max, found.used, found.idle) == (3, 3, 0)
        for connection in held:
            await connection.close()
        found = await pool_of(agent, KIND)
        assert (found.max, found.used, found.idle) == (3, 0, 1)
        await engine.dispose()

    asyncio.run(main())


def test_connections_that_are_being_opened_are_not_in_use(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with silent_server() as (port, until_connected):
            engine = engine_of(f"postgresql://app@127.0.0.1:{port}/app")
            asking = [asyncio.create_task(engine.connect().start()) for _ in range(5)]
            await until_connected(2)
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.idle, found.connecting) == (2, 0, 0, 2)
            assert (found.pending, found.borrowers) == (3, ())
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            found = await pool_of(agent, KIND)
            assert (found.used, found.connecting, found.pending, found.cancelled) == (0, 0, 0, 5)
        del engine, asking, task
        gc.collect()
        engine = engine_of(postgres_url)
        async with engine.connect():
            label = engine.url.render_as_string(hide_password=False).rpartition("@")[2]
            found = await pool_of(agent, KIND, f"postgresql://{label}")
            assert (found.used, found.connecting) == (1, 0)
        found = await pool_of(agent, KIND, f"postgresql://{label}")
        assert (found.used, found.idle, found.connecting) == (0, 1, 0)
        await engine.dispose()

    asyncio.run(main())


async def two_are_in_use_once_there_is_an_agent(engine: Any) -> None:
    """Take a connection beside one that is out and that the agent does not know of."""
    agent = loopwatch.install(prometheus_port=None)
    try:
        async with engine.connect():
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle, found.connecting) == (2, 0, None)
    finally:
        loopwatch.uninstall()


def test_a_pool_that_had_given_out_some_before_counts_those_too(postgres_url: str) -> None:
    async def main() -> None:
        engine = engine_of(postgres_url)
        async with engine.connect():
            await two_are_in_use_once_there_is_an_agent(engine)
        await engine.dispose()

    asyncio.run(main())


def test_what_was_taken_between_two_agents_is_in_use(postgres_url: str) -> None:
    """Of this pool the first one knew all, of which nothing is out when the second comes."""

    async def main() -> None:
        engine = engine_of(postgres_url)
        loopwatch.install(prometheus_port=None)
        async with engine.connect():
            pass
        loopwatch.uninstall()
        known = await engine.connect()
        async with engine.connect():
            await known.close()
            await two_are_in_use_once_there_is_an_agent(engine)
        await engine.dispose()

    asyncio.run(main())


def test_a_pool_that_is_no_queue_beside_one_leaves_it_its_limit(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        engine = engine_of(postgres_url)
        url = postgres_url.replace("postgresql:", "postgresql+asyncpg:")
        other = aio.create_async_engine(url, poolclass=sqlalchemy.pool.NullPool)
        async with engine.connect(), other.connect():
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.instances) == (2, 1, 2)
        await engine.dispose()
        await other.dispose()

    asyncio.run(main())


@pytest.mark.parametrize(("size", "beyond"), [(0, 10), (1, -1)])
def test_no_limit(agent: Agent, postgres_url: str, size: int, beyond: int) -> None:
    if size == 0 and sqlalchemy.__version__ < "2":
        pytest.skip("SQLAlchemy 1.4 keeps to the limit of the overflow")

    async def main() -> None:
        engine = engine_of(postgres_url, size=size, beyond=beyond)
        held = [await engine.connect() for _ in range(3)]
        await held.pop().close()
        found = await pool_of(agent, KIND)
        assert (found.max, found.used, found.idle) == (None, 2, 1)
        for connection in held:
            await connection.close()
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["NullPool", "StaticPool"])
def test_pools_that_are_no_queue_have_waits_and_no_gauges(agent: Agent, postgres_url: str, name: str) -> None:
    async def main() -> None:
        url = postgres_url.replace("postgresql:", "postgresql+asyncpg:")
        engine = aio.create_async_engine(url, poolclass=getattr(sqlalchemy.pool, name))
        async with engine.connect():
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.idle, found.pending) == (None, None, None, None)
            assert (found.wait_count, found.created, found.instances) == (1, 1, 1)
        await engine.dispose()

    asyncio.run(main())


def test_threads(agent: Agent, postgres_url: str) -> None:
    """A sync engine, used by threads: one waits while we read, and another gives up."""
    engine = threaded(postgres_url, pool_size=1, max_overflow=0, pool_timeout=30)
    got: list[Any] = []
    with engine.connect():
        thread = threading.Thread(target=lambda: got.append(engine.connect()))
        thread.start()
        until(lambda: the_pool(agent).pending == 1)
        found = the_pool(agent)
        assert (found.max, found.used, found.wait_count) == (1, 1, 1)
        assert found.waiters is not None
        assert len(found.waiters) == 1
    thread.join()
    got[0].close()
    found = the_pool(agent)
    assert (found.used, found.idle, found.pending, found.wait_count) == (0, 1, 0, 2)
    engine.dispose()


def test_a_subclass(agent: Agent, postgres_url: str) -> None:
    class Mine(sqlalchemy.pool.QueuePool):  # type: ignore[misc]
        def _do_get(self) -> Any:
            return super()._do_get()

    engine = threaded(postgres_url, poolclass=Mine, pool_size=2, max_overflow=1)
    with engine.connect():
        found = the_pool(agent)
        assert (found.max, found.used, found.wait_count) == (3, 1, 1)
    engine.dispose()


def test_labels_have_no_secret(agent: Agent, postgres_url: str) -> None:
    """Not of the URL's query, nor of what is passed to ``connect()``."""
    named = threaded(f"{postgres_url}?options=-csearch_path%3D{SECRET}", pool_logging_name="orders")
    plain = threaded(postgres_url, connect_args={"application_name": SECRET})
    made = sqlalchemy.create_engine("sqlite://", creator=lambda: __import__("sqlite3").connect(":memory:"))
    for engine in (named, plain, made):
        with engine.connect():
            pass
    server = login(postgres_url)
    labels = {pool.label for pool in agent.pools() if pool.kind == KIND}
    assert labels == {"orders", f"postgresql://{server['host']}:{server['port']}/postgres"} | {
        label for label in labels if label.startswith(f"{__name__}:")
    }
    assert len(labels) == 3
    assert SECRET not in str(agent.snapshot())
    for engine in (named, plain, made):
        engine.dispose()


def test_without_a_host_the_label_is_the_line_that_first_connected(agent: Agent, tmp_path: Path) -> None:
    """In a greenlet, whose own stack ends in SQLAlchemy."""
    pytest.importorskip("aiosqlite", reason="needs: aiosqlite")

    async def main() -> None:
        engine = aio.create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
        line = sys._getframe().f_lineno + 1
        async with engine.connect() as connection:
            await connection.execute(sqlalchemy.text("SELECT 1"))
        assert (await pool_of(agent, KIND)).label == f"{__name__}:{line}"
        await engine.dispose()

    asyncio.run(main())


def test_a_creator_of_the_programs_own_leaves_the_line(agent: Agent, postgres_url: str) -> None:
    if sqlalchemy.__version__ < "2":
        pytest.skip("SQLAlchemy 1.4 takes no coroutine function")

    async def connect() -> Any:
        return await asyncpg.connect(postgres_url)

    async def main() -> None:
        engine = aio.create_async_engine("postgresql+asyncpg://", async_creator=connect)
        line = sys._getframe().f_lineno + 1
        async with engine.connect():
            pass
        assert (await pool_of(agent, KIND)).label == f"{__name__}:{line}"
        await engine.dispose()

    asyncio.run(main())


def test_create_engine_takes_what_it_took(agent: Agent) -> None:
    """It looks into the ``__init__`` of pools and engines for the arguments that these take."""
    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=sqlalchemy.pool.QueuePool, pool_size=3, max_overflow=4, pool_pre_ping=True
    )
    assert (engine.pool.size(), engine.pool._max_overflow, engine.pool._pre_ping) == (3, 4, True)


def the_pool(agent: Agent) -> Pool:
    [found] = [pool for pool in agent.pools() if pool.kind == KIND]
    return found


def until(true: Callable[[], bool]) -> None:
    """Look again and again: each look takes its time."""
    for _ in range(100_000):
        if true():
            return
    raise AssertionError("it never was")
