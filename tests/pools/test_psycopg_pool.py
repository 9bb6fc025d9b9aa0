"""psycopg_pool: what is not as in every library."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent, Pool

from .experiment import collect, pool_of, silent_server
from .servers import SECRET, login

psycopg = pytest.importorskip("psycopg", reason="needs: psycopg")
psycopg_pool = pytest.importorskip("psycopg_pool", reason="needs: psycopg_pool")

KIND = "psycopg_pool"


def open_pool(url: str, **options: Any) -> Any:
    return psycopg_pool.AsyncConnectionPool(url, **{"min_size": 2, "max_size": 2, "open": False, **options})


def test_timeouts_rejections_and_cancellations_are_counted_exactly(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url, max_waiting=3) as pool:
            held = [await pool.getconn() for _ in range(2)]
            for _ in range(2):
                with pytest.raises(psycopg_pool.PoolTimeout):
                    await pool.getconn(timeout=0.01)
            # Those two lie in the library's queue still, which counts them as waiting.
            assert (await pool_of(agent, KIND)).pending == 0
            waiting = [asyncio.create_task(pool.getconn())]
            await asyncio.sleep(0)
            assert (await pool_of(agent, KIND)).pending == 1
            for _ in range(4):
                with pytest.raises(psycopg_pool.TooManyRequests):
                    await pool.getconn()
            waiting[0].cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            found = await pool_of(agent, KIND)
            assert (found.timeouts, found.rejected, found.cancelled) == (2, 4, 1)
            assert found.wait_count == 2 + 2 + 4 + 1
            for connection in held:
                await pool.putconn(connection)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"name": "orders"}, "orders"),
        ({"name": 7}, "7"),
        ({}, "{host}:{port}/postgres"),
        ({"kwargs": {"dbname": "app", "application_name": SECRET}}, "{host}:{port}/app"),
    ],
)
def test_labels(agent: Agent, postgres_url: str, options: dict[str, Any], label: str) -> None:
    pool = open_pool(f"{postgres_url}?options=-csearch_path%3D{SECRET}", **options)
    [found] = pools(agent)
    assert found.label == label.format(**login(postgres_url))
    assert SECRET not in str(agent.snapshot())
    assert not pool.closed or pool.name


def test_connections_that_are_being_opened_are_not_in_use(agent: Agent) -> None:
    async def main() -> None:
        async with silent_server() as (port, until_connected):
            pool = open_pool(f"postgresql://app@127.0.0.1:{port}/app", max_size=4)
            found = await pool_of(agent, KIND)
            assert (found.max, found.used, found.idle, found.connecting) == (4, 0, 0, 0)
            await pool.open()
            await until_connected(2)
            waiting = asyncio.create_task(pool.getconn())
            await asyncio.sleep(0)
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle, found.pending) == (0, 0, 1)
            assert found.connecting in (2, 3)  # it may grow already
            waiting.cancel()
            await asyncio.wait([waiting])
        await pool.close(timeout=0)

    asyncio.run(main())


def test_a_pool_that_had_given_out_some_before_counts_those_too(postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url) as pool:
            early = await pool.getconn()
            agent = loopwatch.install(prometheus_port=None)
            try:
                later = await pool.getconn()
                found = await pool_of(agent, KIND)
                assert (found.used, found.idle, found.connecting) == (2, 0, None)
            finally:
                loopwatch.uninstall()
            for connection in (early, later):
                await pool.putconn(connection)

    asyncio.run(main())


async def end_by_server(connection: Any, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT pg_terminate_backend(%s, 60000)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")


async def end_by_program(connection: Any, _url: str) -> None:
    await connection.close()


@pytest.mark.parametrize("end", [end_by_server, end_by_program])
def test_a_connection_that_comes_back_broken_is_held_no_more(
    agent: Agent, postgres_url: str, end: Callable[[Any, str], Any]
) -> None:
    """The program may refer to it for long, as an error does by its traceback. The library has a new one."""

    async def main() -> None:
        async with open_pool(postgres_url) as pool:
            await pool.wait()
            connection = await pool.getconn()
            await end(connection, postgres_url)
            found = await pool_of(agent, KIND)
            assert (found.used, found.idle, found.connecting) == (1, 1, 0)
            await pool.putconn(connection)
            found = await pool_of(agent, KIND)
            assert (found.used, found.borrowers) == (0, ())
            await pool.wait()
            held = [await pool.getconn() for _ in range(2)]
            found = await pool_of(agent, KIND)
            assert found.borrowers is not None
            assert (found.used, found.idle, len(found.borrowers)) == (2, 0, 2)
            for one in held:
                await pool.putconn(one)
            del connection  # to here

    asyncio.run(main())


def test_a_connection_that_was_dropped_is_held_by_who_dropped_it(agent: Agent, postgres_url: str) -> None:
    """The library never hears of it, and has one place less for good."""

    async def drops(pool: Any) -> None:
        await pool.getconn()

    async def main() -> None:
        async with open_pool(postgres_url) as pool:
            await pool.wait()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # psycopg does warn of it
                await asyncio.create_task(drops(pool))
                gc.collect()
            for _ in range(3):
                found = await pool_of(agent, KIND)
                assert (found.used, found.idle, found.connecting) == (1, 1, 0)
            [holder] = found.borrowers or ()
            assert holder.gone
            assert holder.coroutine is not None
            assert holder.coroutine.endswith("drops")
            async with pool.connection():  # the one that is left
                found = await pool_of(agent, KIND)
                assert (found.used, found.idle, len(found.borrowers or ())) == (2, 0, 2)
            with pytest.raises(psycopg_pool.PoolTimeout):
                async with pool.connection():
                    await pool.getconn(timeout=0.01)

    asyncio.run(main())


def test_connections_that_come_and_go_are_not_lost(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url, max_lifetime=0.001) as pool:  # each is closed when it comes back
            for _ in range(10):
                async with pool.connection() as connection:
                    await connection.execute("SELECT 1")
            del connection
            await pool.wait()
            gc.collect()
            found = await pool_of(agent, KIND)
            assert (found.used, found.borrowers) == (0, ())
        async with psycopg_pool.AsyncNullConnectionPool(postgres_url, max_size=2, open=False) as pool:
            for _ in range(3):
                async with pool.connection():
                    pass
            collect(lambda: [one for one in pools(agent) if one.instances == 1])
            [found] = [one for one in await asyncio.to_thread(pools, agent) if one.instances == 1]
            assert (found.used, found.borrowers) == (0, ())

    asyncio.run(main())


def test_what_was_acquired_under_an_earlier_agent_comes_back_under_this_one(postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url, min_size=4, max_size=4) as pool:
            loopwatch.install(prometheus_port=None)
            held = [await pool.getconn() for _ in range(4)]
            loopwatch.uninstall()
            agent = loopwatch.install(prometheus_port=None)
            try:
                for connection in held:
                    await pool.putconn(connection)
                async with pool.connection():
                    assert (await pool_of(agent, KIND)).used == 1
                points = (await asyncio.to_thread(agent.snapshot)).points
                assert [point.value for point in points["reader_up"] if KIND in point.labels] == [1, 1, 1]
                assert not [point for point in points["internal_errors"] if point.value]
            finally:
                loopwatch.uninstall()

    asyncio.run(main())


def test_one_that_outlived_an_agent_is_lost_under_the_next(postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url) as pool:
            loopwatch.install(prometheus_port=None)
            async with pool.connection(), pool.connection():
                pass  # both are watched over from now on
            loopwatch.uninstall()
            agent = loopwatch.install(prometheus_port=None)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # psycopg does warn of it
                    await pool.getconn()
                    gc.collect()
                [holder] = (await pool_of(agent, KIND)).borrowers or ()
                assert holder.coroutine == f"{main.__qualname__}"
            finally:
                loopwatch.uninstall()

    asyncio.run(main())


def test_what_is_wrong_to_give_back_is_told_as_without_us(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with open_pool(postgres_url) as pool, pool.connection():
            with pytest.raises(ValueError, match="can't return connection") as failed:
                await pool.putconn(object())
            names = [entry.name for entry in failed.traceback]
            assert names[0] == "main"
            assert not [entry for entry in failed.traceback if "loopwatch/_collectors" in str(entry.path)]
        with psycopg_pool.ConnectionPool(postgres_url, min_size=1, open=False) as sync:
            with pytest.raises(ValueError, match="can't return connection") as failed:
                sync.putconn(object())
            assert not [entry for entry in failed.traceback if "loopwatch/_collectors" in str(entry.path)]

    asyncio.run(main())


def test_a_thread_gives_back_a_broken_one(agent: Agent, postgres_url: str) -> None:
    with psycopg_pool.ConnectionPool(postgres_url, min_size=1, max_size=1, open=True) as pool:
        connection = pool.getconn()
        connection.close()
        [found] = pools(agent)
        assert found.used == 1
        pool.putconn(connection)
        [found] = pools(agent)
        assert (found.used, found.borrowers) == (0, ())
        del connection  # to here


def test_a_dsn_that_is_none(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    """The program hears of it when it connects, and not from us."""
    made = [open_pool(f"postgresql://app:{SECRET}@[::1/?nonsense=1") for _ in range(4)]
    [found] = pools(agent)
    assert found.label.startswith(f"{__name__}:")
    assert (found.instances, found.max) == (len(made), 8)
    assert not [record for record in caplog.records if record.name == "loopwatch"]


def test_a_password_with_an_at_sign_in_it(agent: Agent) -> None:
    """As somebody writes it who does not quote: half of it is taken for the server."""
    made = open_pool(f"postgresql://app:half@{SECRET}@127.0.0.1/app")
    [found] = pools(agent)
    assert found.label.startswith(f"{__name__}:")
    del made


def test_a_pool_that_keeps_nothing(agent: Agent, postgres_url: str) -> None:
    async def main() -> None:
        async with psycopg_pool.AsyncNullConnectionPool(postgres_url, max_size=2, open=False) as pool:
            async with pool.connection():
                found = await pool_of(agent, KIND)
                assert (found.max, found.used, found.idle, found.wait_count) == (2, 1, 0, 1)
                assert found.borrowers is not None
                assert len(found.borrowers) == 1
            assert (await pool_of(agent, KIND)).used == 0

    asyncio.run(main())


def test_a_subclass(agent: Agent, postgres_url: str) -> None:
    class Mine(psycopg_pool.AsyncConnectionPool):  # type: ignore[misc]
        async def getconn(self, timeout: float | None = None) -> Any:
            return await super().getconn(timeout)

    async def main() -> None:
        async with Mine(postgres_url, min_size=1, max_size=2, open=False, name="mine") as pool:
            await pool.wait()  # the size has connections in it that are being opened
            async with pool.connection():
                found = await pool_of(agent, KIND, "mine")
                assert (found.used, found.wait_count, found.created) == (1, 1, 1)

    asyncio.run(main())


def test_a_pool_of_threads(agent: Agent, postgres_url: str) -> None:
    with psycopg_pool.ConnectionPool(postgres_url, min_size=1, max_size=1, open=True, name="mine") as pool:
        with pool.connection():
            asked = time.monotonic()
            for _ in range(3):
                with pytest.raises(psycopg_pool.PoolTimeout):
                    pool.getconn(timeout=0.02)
            waited = time.monotonic() - asked
            [found] = pools(agent)
            assert (found.max, found.used, found.pending, found.timeouts) == (1, 1, 0, 3)
            assert found.wait_sum is not None
            assert found.wait_sum >= 3 * 0.02
            assert found.borrowers is not None
            assert len(found.borrowers) == 1
            assert waited < 30
        [found] = pools(agent)
        assert (found.used, found.idle, found.borrowers) == (0, 1, ())


def pools(agent: Agent) -> list[Pool]:
    return [pool for pool in agent.pools() if pool.kind == KIND]
