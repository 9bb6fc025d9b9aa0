"""Each server answers the client library that is tested against it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .servers import SECRET, free_port, login

DELAY = 0.2

TESTS = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import servers
with servers.http(100) as url:
    print(url, flush=True)
    signal.pause()
"""


def test_asyncpg(postgres_url: str) -> None:
    asyncpg = pytest.importorskip("asyncpg", reason="needs: asyncpg")

    async def main() -> str:
        async with asyncpg.create_pool(postgres_url, min_size=1, max_size=2) as pool:
            return await pool.fetchval("SELECT current_user")

    assert asyncio.run(main()) == "app"


def test_psycopg_pool(postgres_url: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool", reason="needs: psycopg_pool")

    async def main() -> object:
        async with (
            psycopg_pool.AsyncConnectionPool(postgres_url, min_size=1, max_size=2, open=False) as pool,
            pool.connection() as connection,
        ):
            return await (await connection.execute("SELECT current_user")).fetchone()

    assert asyncio.run(main()) == ("app",)


def test_sqlalchemy(postgres_url: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs: SQLAlchemy")
    aio = pytest.importorskip("sqlalchemy.ext.asyncio", reason="needs: SQLAlchemy[asyncio]")
    pytest.importorskip("asyncpg", reason="needs: asyncpg")

    async def main() -> object:
        engine = aio.create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
        try:
            async with engine.connect() as connection:
                return (await connection.execute(sqlalchemy.text("SELECT current_user"))).scalar()
        finally:
            await engine.dispose()

    assert asyncio.run(main()) == "app"


def test_redis(redis_url: str) -> None:
    redis = pytest.importorskip("redis.asyncio", reason="needs: redis")

    async def main() -> tuple[object, float]:
        client = redis.Redis.from_url(redis_url)
        try:
            started = time.monotonic()
            return await client.blpop(["nothing"], timeout=DELAY), time.monotonic() - started
        finally:
            await client.aclose()

    nothing, took = asyncio.run(main())
    assert nothing is None
    assert took >= DELAY


@pytest.mark.parametrize("name", ["aiomysql", "asyncmy"])
def test_mysql(name: str, mariadb_url: str) -> None:
    library = pytest.importorskip(name, reason=f"needs: {name}")

    async def main() -> object:
        async with (
            library.create_pool(**login(mariadb_url), db="app", maxsize=2) as pool,
            pool.acquire() as connection,
            connection.cursor() as cursor,
        ):
            await cursor.execute("SELECT DATABASE()")
            return await cursor.fetchone()

    assert asyncio.run(main()) == ("app",)


def test_aio_pika(rabbitmq_url: str) -> None:
    aio_pika = pytest.importorskip("aio_pika", reason="needs: aio_pika")

    async def main() -> bytes:
        async with await aio_pika.connect(rabbitmq_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("letters", auto_delete=True)
            await channel.default_exchange.publish(aio_pika.Message(b"hello"), "letters")
            return (await queue.get()).body

    assert asyncio.run(main()) == b"hello"


def test_pymongo(mongodb_url: str) -> None:
    pymongo = pytest.importorskip("pymongo", reason="needs: pymongo")

    async def main() -> tuple[object, float]:
        async with pymongo.AsyncMongoClient(mongodb_url) as client:
            assert (await client.admin.command("ping"))["ok"] == 1.0
            started = time.monotonic()
            return await client.shop.orders.find_one({"delay": DELAY}), time.monotonic() - started

    document, took = asyncio.run(main())
    assert document == {"_id": 1}
    assert took >= DELAY


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_http1(name: str, http_url: str) -> None:
    library = pytest.importorskip(name, reason=f"needs: {name}")

    async def main() -> tuple[str, str, float]:
        async with library.AsyncClient() as client:
            started = time.monotonic()
            response = await client.get(f"{http_url}/delay/{DELAY}")
            return response.http_version, response.text, time.monotonic() - started

    version, text, took = asyncio.run(main())
    assert (version, text) == ("HTTP/1.1", "ok")
    assert took >= DELAY


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_http2_streams_wait_for_each_other(name: str, h2_url: Callable[[int], str]) -> None:
    library = pytest.importorskip(name, reason=f"needs: {name}")
    url = h2_url(2)

    async def main() -> tuple[set[str], float]:
        async with library.AsyncClient(http1=False, http2=True, timeout=60) as client:
            await client.get(url)  # the first answer brings the server's settings
            started = time.monotonic()
            responses = await asyncio.gather(*(client.get(f"{url}/delay/{DELAY}") for _ in range(6)))
            return {response.http_version for response in responses}, time.monotonic() - started

    versions, took = asyncio.run(main())
    assert versions == {"HTTP/2"}
    assert took >= 3 * DELAY


def test_aiohttp(http_url: str) -> None:
    aiohttp = pytest.importorskip("aiohttp", reason="needs: aiohttp")

    async def main() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{http_url}/delay/{DELAY}") as response:
            return await response.text()

    assert asyncio.run(main()) == "ok"


def test_elasticsearch(http_url: str) -> None:
    elasticsearch = pytest.importorskip("elasticsearch", reason="needs: elasticsearch")

    async def main() -> int:
        async with elasticsearch.AsyncElasticsearch(http_url) as client:
            response = await client.transport.perform_request("GET", f"/delay/{DELAY}")
            return response.meta.status

    assert asyncio.run(main()) == 200


def test_aiobotocore(http_url: str) -> None:
    session = pytest.importorskip("aiobotocore.session", reason="needs: aiobotocore")
    config = pytest.importorskip("aiobotocore.config", reason="needs: aiobotocore")

    async def main() -> bytes:
        async with session.get_session().create_client(
            "s3",
            endpoint_url=http_url,
            region_name="nowhere",
            aws_access_key_id="key",
            aws_secret_access_key=SECRET,
            config=config.AioConfig(s3={"addressing_style": "path"}),
        ) as client:
            answer = await client.get_object(Bucket="delay", Key=str(DELAY))
            async with answer["Body"] as body:
                return await body.read()

    assert asyncio.run(main()) == b"ok"


def test_taskiq(redis_url: str) -> None:
    taskiq_redis = pytest.importorskip("taskiq_redis", reason="needs: taskiq-redis")
    receiver = pytest.importorskip("taskiq.receiver", reason="needs: taskiq")

    async def main() -> str:
        broker = taskiq_redis.ListQueueBroker(redis_url)
        greeted = asyncio.get_running_loop().create_future()

        @broker.task(task_name="greet")
        async def greet(whom: str) -> None:
            greeted.set_result(whom)

        with ThreadPoolExecutor(1) as executor:
            worker = receiver.Receiver(broker, executor, max_async_tasks=2)
            listening = asyncio.create_task(worker.listen(asyncio.Event()))
            await greet.kiq("the broker")
            async with asyncio.timeout(60):
                whom = await greeted
            listening.cancel()
            await asyncio.wait([listening])
        await broker.shutdown()
        return whom

    assert asyncio.run(main()) == "the broker"


def test_nothing_of_a_server_is_left_when_the_tests_are_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TESTS, Path(__file__).parent],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # who supervises the server has it too, so it ends with both of them
        text=True,
    ) as tests:
        assert tests.stdout is not None
        assert tests.stderr is not None
        url = urlsplit(tests.stdout.readline().strip())
        socket.create_connection((url.hostname, url.port)).close()
        assert len(list(tmp_path.iterdir())) == 1
        tests.kill()
        assert tests.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port is not kept")
def test_a_free_port_is_its_servers_also_when_that_comes_again() -> None:
    port = free_port()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            socket.create_connection(server.getsockname()).close()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
