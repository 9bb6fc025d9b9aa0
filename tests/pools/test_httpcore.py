"""httpcore's pool under httpx, and httpcore2's under httpx2, against a real server of HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib
import importlib.util
import inspect
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent

from .experiment import collect_pools, pool_of, read_under_churn, ten_callers_of_two

PACKAGES = {"httpx": "httpcore", "httpx2": "httpcore2"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    yield loopwatch.install(prometheus_port=None)
    loopwatch.uninstall()


@pytest.fixture(params=PACKAGES)
def httpx(request: pytest.FixtureRequest) -> Any:
    try:
        return importlib.import_module(request.param)
    except ImportError:
        pytest.skip(f"needs: {request.param}")


@pytest.fixture
def kind(httpx: Any) -> str:
    return PACKAGES[httpx.__name__]


class Server:
    """Answers HTTP/1.1, each request as soon as it is let: a number of them, or all."""

    def __init__(self) -> None:
        self.url = ""
        self.turns = asyncio.Semaphore(0)
        self.everybody = asyncio.Event()
        self.received = 0
        self.handlers: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handlers.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.received += 1
                if not self.everybody.is_set():
                    await self.turns.acquire()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def end(self) -> None:
        """Wait for the clients to be gone."""
        self.let_all()
        await asyncio.gather(*filter(None, self.handlers))

    def let_all(self) -> None:
        self.everybody.set()
        for _ in range(1000):
            self.turns.release()


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as listening:
        found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield found
        await found.end()


def client_of(httpx: Any, connections: int = 2, pool: float | None = 60, **more: Any) -> Any:
    limits = httpx.Limits(max_connections=connections)
    return httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(60, pool=pool), trust_env=False, **more)


async def all_wait(agent: Agent, kind: str, pending: int) -> Any:
    """Return the pool once so many wait for it."""
    async with asyncio.timeout(120):
        while (pool := await pool_of(agent, kind)).pending != pending:
            pass
    return pool


def test_ten_callers_of_two(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote, client_of(httpx) as client:
            remote.let_all()

            async def acquire() -> Any:
                return await client.send(client.build_request("GET", remote.url), stream=True)

            done = await ten_callers_of_two(agent, kind, acquire, lambda response: response.aclose())
            assert done.label.startswith(f"{__name__}:")
            assert (done.timeouts, done.cancelled, done.instances, done.created) == (0, 0, 1, 1)

    asyncio.run(main())


def test_pending_does_not_dip_when_a_connection_is_handed_over(agent: Agent, httpx: Any, kind: str) -> None:
    """One connection that is freed is assigned to all who wait, of whom one wins."""

    async def main() -> None:
        async with server() as remote, client_of(httpx, connections=1) as client:
            seen: list[tuple[int, int]] = []
            stop = threading.Event()

            def look() -> None:
                while not stop.is_set():
                    [pool] = [pool for pool in agent.pools() if pool.kind == kind]
                    seen.append((pool.used or 0, pool.pending or 0))

            callers = [asyncio.create_task(client.get(remote.url)) for _ in range(20)]
            await all_wait(agent, kind, 19)
            while not remote.received:  # the first one has its connection
                await asyncio.sleep(0)
            thread = threading.Thread(target=look)
            thread.start()
            for turn in range(1, 11):
                remote.turns.release()
                while remote.received <= turn or len(seen) < turn:
                    await asyncio.sleep(0)
            stop.set()
            thread.join()
            assert seen
            assert min(pending for _, pending in seen) >= 9
            assert max(used for used, _ in seen) == 1
            remote.let_all()
            await asyncio.gather(*callers)
            assert (await pool_of(agent, kind)).wait_count == 20

    asyncio.run(main())


def test_each_request_is_counted_once_in_bursts(agent: Agent, httpx: Any, kind: str) -> None:
    """To three servers, over a pool that keeps few connections: many are bounced, or closed for others."""

    async def main() -> None:
        limits = httpx.Limits(max_connections=5, max_keepalive_connections=2)
        waited = 0.0
        async with (
            server() as one,
            server() as other,
            server() as third,
            httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client,
        ):
            servers = (one, other, third)
            for remote in servers:
                remote.let_all()

            async def get(number: int) -> None:
                nonlocal waited
                request = client.build_request("GET", servers[number % 3].url)
                began = asyncio.get_running_loop().time()
                response = await client.send(request, stream=True)
                waited += asyncio.get_running_loop().time() - began
                await response.aread()

            for burst in range(1, 6):
                await asyncio.gather(*(get(number) for number in range(40)))
                pool = await pool_of(agent, kind)
                assert (pool.wait_count, pool.pending, pool.waiters) == (40 * burst, 0, ())
                assert pool.wait_sum is not None
                assert waited / 2 < pool.wait_sum < waited

    asyncio.run(main())


def test_timeouts_and_cancellations_are_counted_exactly(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote, client_of(httpx, pool=0.2) as client:
            holding = [asyncio.create_task(client.get(remote.url)) for _ in range(2)]
            await until(lambda: remote.received == 2)
            impatient = [client.get(remote.url) for _ in range(3)]
            cancelled = [
                asyncio.create_task(client.get(remote.url, timeout=httpx.Timeout(60))) for _ in range(4)
            ]
            ends = await asyncio.gather(*impatient, return_exceptions=True)
            assert [type(end) for end in ends] == [httpx.PoolTimeout] * 3
            assert not any("loopwatch" in file for end in ends for file in files_of(end))
            for task in cancelled:
                task.cancel()
            await asyncio.gather(*cancelled, return_exceptions=True)
            pool = await pool_of(agent, kind)
            assert (pool.timeouts, pool.cancelled, pool.rejected) == (3, 4, 0)
            assert (pool.used, pool.pending, pool.wait_count) == (2, 0, 9)
            assert pool.wait_sum is not None
            assert pool.wait_sum >= 7 * 0.2  # theirs are counted in full
            remote.let_all()
            await asyncio.gather(*holding)

    asyncio.run(main())


def files_of(error: Any) -> list[str]:
    files = []
    while error is not None:
        step, error = error.__traceback__, error.__cause__ or error.__context__
        while step is not None:
            files.append(step.tb_frame.f_code.co_filename.partition("site-packages")[2])
            step = step.tb_next
    return files


def test_a_connection_that_cannot_be_opened_is_a_wait_that_failed(
    agent: Agent, httpx: Any, kind: str, unused_port: int
) -> None:
    async def main() -> None:
        async with client_of(httpx) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{unused_port}")
            pool = await pool_of(agent, kind)
            assert (pool.wait_count, pool.timeouts, pool.cancelled, pool.used) == (1, 0, 0, 0)

    asyncio.run(main())


@pytest.fixture
def unused_port() -> Iterator[int]:
    """One that nobody else gets meanwhile, and that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_client_from_before_is_found_and_known_by_its_server(httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote:
            remote.let_all()
            client = client_of(httpx)
            agent = loopwatch.install(prometheus_port=None)
            try:
                assert [pool for pool in agent.pools() if pool.kind == kind] == []
                await client.get(remote.url)
                pool = await pool_of(agent, kind)
                assert (pool.label, pool.idle, pool.wait_count) == (remote.url.removeprefix("http://"), 1, 1)
            finally:
                loopwatch.uninstall()
            assert (await client.get(remote.url)).text == "ok"
            await client.aclose()

    asyncio.run(main())


def test_a_client_for_each_request_makes_one_series(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote:
            remote.let_all()
            for number in range(1, 21):
                async with client_of(httpx) as client:
                    await client.get(remote.url)
                del client
                collect_pools(agent, kind)
                pool = await pool_of(agent, kind)
                assert (pool.instances, pool.created, pool.wait_count, pool.used) == (0, number, number, 0)

    asyncio.run(main())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda request: pickle.loads(pickle.dumps(request))])
def test_a_request_that_waits_can_be_copied(
    agent: Agent, httpx: Any, kind: str, duplicate: Callable[[Any], Any]
) -> None:
    async def main() -> None:
        library = importlib.import_module(kind)
        async with server() as remote, library.AsyncConnectionPool(max_connections=1) as pool:
            requests = [library.Request("GET", remote.url, headers={"Host": "here"}) for _ in range(2)]
            sent = [asyncio.create_task(pool.handle_async_request(request)) for request in requests]
            await all_wait(agent, kind, 1)
            copied = duplicate(requests[1])
            assert (copied.method, copied.url) == (b"GET", requests[1].url)
            remote.let_all()
            for response in sent:
                await (await response).aclose()
            await (await pool.handle_async_request(copied)).aclose()
            assert (await pool_of(agent, kind)).wait_count == 3

    asyncio.run(main())


def test_two_loops_under_one_label_are_added_up(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote:

            async def one() -> None:
                async with client_of(httpx, connections=1) as client:
                    both = [asyncio.create_task(client.get(remote.url)) for _ in range(3)]
                    await asyncio.gather(*both)

            threads = [threading.Thread(target=asyncio.run, args=(one(),)) for _ in range(2)]
            for thread in threads:
                thread.start()
            await until(lambda: remote.received == 2)
            pool = await all_wait(agent, kind, 4)
            assert (pool.max, pool.used, pool.instances, pool.wait_count) == (2, 2, 2, 2)
            remote.let_all()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            assert (await pool_of(agent, kind)).wait_count == 6

    asyncio.run(main())


class Http2Server(asyncio.Protocol):
    """Answers HTTP/2 with three streams at a time, each request as soon as it is let."""

    STREAMS = 3

    def __init__(self, waiting: list[Any]) -> None:
        self._waiting = waiting
        """What answers the requests that were received."""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        h2 = importlib.import_module("h2.connection")
        self._transport = transport
        config = importlib.import_module("h2.config").H2Configuration(client_side=False)
        self._state = h2.H2Connection(config)
        codes = importlib.import_module("h2.settings").SettingCodes
        self._state.initiate_connection()
        self._state.update_settings({codes.MAX_CONCURRENT_STREAMS: self.STREAMS})
        self._send()

    def data_received(self, data: bytes) -> None:
        for event in self._state.receive_data(data):
            if type(event).__name__ == "RequestReceived":
                self._waiting.append(functools.partial(self._answer, event.stream_id))
        self._send()

    def _answer(self, stream: int) -> None:
        self._state.send_headers(stream, [(":status", "200")])
        self._state.send_data(stream, b"ok", end_stream=True)
        self._send()

    def _send(self) -> None:
        self._transport.write(self._state.data_to_send())


def test_requests_that_wait_for_a_stream_of_http2_are_pending(agent: Agent, httpx: Any, kind: str) -> None:
    if importlib.util.find_spec("h2") is None:
        pytest.skip("needs: h2")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiting: list[Any] = []
        async with await loop.create_server(lambda: Http2Server(waiting), "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with client_of(httpx, connections=1, http1=False, http2=True) as client:
                first = asyncio.create_task(client.get(url))
                await until(lambda: len(waiting) == 1)  # the settings have arrived by the answer to it
                waiting.pop()()
                await first
                callers = [asyncio.create_task(client.get(url)) for _ in range(10)]
                await until(lambda: len(waiting) == 3)
                pool = await all_wait(agent, kind, 7)
                assert (pool.max, pool.used, pool.wait_count) == (1, 1, 4)
                assert (len(pool.borrowers or ()), len(pool.waiters or ())) == (3, 7)
                await asyncio.sleep(0.1)  # under test: so long do the seven wait, and longer
                while not all(caller.done() for caller in callers):
                    while waiting:
                        waiting.pop()()
                    await asyncio.sleep(0)
                pool = await pool_of(agent, kind)
                assert (pool.used, pool.pending, pool.wait_count) == (0, 0, 11)
                assert pool.wait_sum is not None
                assert pool.wait_sum >= 7 * 0.1

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0)


def test_a_connection_that_a_cancelled_request_leaves_behind_is_held_by_that(
    agent: Agent, httpx: Any, kind: str
) -> None:
    """The server closes after the first answer, so that the next in the queue gets a new connection."""

    async def main() -> None:
        asked = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await all_wait(agent, kind, 1)
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            async with client_of(httpx, connections=1) as client:
                request = client.build_request("GET", f"http://{host}:{port}/")
                first = asyncio.create_task(client.send(request, stream=True))
                await asked.wait()

                async def unlucky() -> None:
                    await client.get(f"http://{host}:{port}/")

                waiting = asyncio.create_task(unlucky())
                response = await first
                await response.aread()  # which gives the connection back, and the next its own
                waiting.cancel()
                await asyncio.wait([waiting])
                pool = await pool_of(agent, kind)
                if pool.connecting == 0:
                    pytest.skip("this version leaves nothing behind")
                assert (pool.used, pool.idle, pool.connecting, pool.pending) == (0, 0, 1, 0)
                assert pool.borrowers is not None
                [left] = pool.borrowers
                assert left.gone
                assert left.coroutine is not None
                assert left.coroutine.endswith("unlucky")
                with pytest.raises(httpx.PoolTimeout):
                    await client.get(f"http://{host}:{port}/", timeout=httpx.Timeout(60, pool=0.05))
                pool = await pool_of(agent, kind)
                assert [one.coroutine for one in pool.borrowers or ()] == [left.coroutine]

    asyncio.run(main())


def test_requests_that_are_over_leave_nothing_and_one_that_was_dropped_is_named(
    agent: Agent, httpx: Any, kind: str
) -> None:
    async def main() -> None:
        async with server() as remote, client_of(httpx) as client:
            remote.let_all()
            dropped: list[Any] = []

            async def drops() -> None:
                dropped.append(await client.send(client.build_request("GET", remote.url), stream=True))

            await asyncio.create_task(drops())
            for _ in range(20):
                await client.get(remote.url)
            [watched] = [pool for pool in agent._engine._pools.live() if pool.kind == kind]
            assert watched.held == {}
            [pool] = [pool for pool in await asyncio.to_thread(agent.pools) if pool.kind == kind]
            assert (pool.used, pool.idle, pool.wait_count) == (1, 1, 21)
            [holder] = pool.borrowers or ()
            assert holder.gone
            assert holder.coroutine is not None
            assert holder.coroutine.endswith("drops")
            assert holder.site is not None
            await dropped.pop().aclose()
            [pool] = [pool for pool in await asyncio.to_thread(agent.pools) if pool.kind == kind]
            assert (pool.used, pool.borrowers) == (0, ())

    asyncio.run(main())


@pytest.mark.parametrize("http2", [False, True])
def test_a_closed_client_holds_nothing(
    agent: Agent, httpx: Any, kind: str, h2_url: Callable[[int], str], http2: bool
) -> None:
    """Though its pool goes on to list the requests whose responses nobody closed, as long as it lives."""
    if http2:
        pytest.importorskip("h2", reason="needs: h2")

    async def main() -> None:
        client = client_of(httpx, http1=not http2, http2=http2)
        url = f"{h2_url(100)}/held"
        dropped = [await client.send(client.build_request("GET", url), stream=True) for _ in range(2)]
        pool = await pool_of(agent, kind)
        assert (pool.used, pool.pending, len(pool.borrowers or ())) == (1 if http2 else 2, 0, 2)
        await client.aclose()
        pool = await pool_of(agent, kind)
        assert (pool.used, pool.idle, pool.pending, pool.borrowers) == (0, 0, 0, ())
        del dropped  # to here

    asyncio.run(main())


def test_a_request_that_is_sent_again_is_held_by_who_sent_it_last(
    agent: Agent, httpx: Any, kind: str
) -> None:
    async def main() -> None:
        library = importlib.import_module(kind)
        async with server() as remote, library.AsyncConnectionPool(max_connections=1) as pool:
            request = library.Request("GET", remote.url, headers={"Host": "here"})

            async def once() -> None:
                response = await pool.handle_async_request(request)
                await response.aread()
                await response.aclose()

            for number, name in enumerate(("first", "second"), start=1):
                sent = asyncio.create_task(once(), name=name)
                await until(lambda number=number: remote.received == number)
                [found] = [one for one in await asyncio.to_thread(agent.pools) if one.kind == kind]
                assert [one.task_name for one in found.borrowers or ()] == [name]
                remote.turns.release()
                await sent
            assert (await pool_of(agent, kind)).wait_count == 2

    asyncio.run(main())


FORKS = """
import asyncio, KIND, loopwatch, os, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested here
agent = loopwatch.install(prometheus_port=None)
loop = asyncio.new_event_loop()

async def main():
    asked, forked = asyncio.Event(), loop.create_future()

    async def serve(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        asked.set()
        await forked

    def fork():  # in a callback: since Python 3.14, a task cannot go on in a forked child
        child = os.fork()
        if not child:
            show("child")
            os._exit(0)
        forked.set_result(os.waitpid(child, 0)[1])

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        pool = KIND.AsyncConnectionPool(max_connections=1)
        tasks = [asyncio.create_task(pool.request("GET", url)) for _ in range(3)]
        await asked.wait()
        loop.call_soon(fork)
        assert await forked == 0
        show("parent")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.aclose()

def show(who):
    [pool] = [pool for pool in agent.pools() if pool.kind == "KIND"]
    people = len(pool.borrowers or ()), len(pool.waiters or ())
    print(who, pool.used, pool.pending, *people, pool.oldest_wait > 0, pool.wait_count, flush=True)

loop.run_until_complete(main())
loopwatch.uninstall()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_requests_of_the_parent_are_nobodys_in_a_forked_child(httpx: Any, kind: str) -> None:
    """The library's own account of its connections is copied; the tasks that have them do not run there."""
    program = [sys.executable, "-c", FORKS.replace("KIND", kind)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["child 1 2 0 0 False 0", "parent 1 2 1 2 True 1"]


def test_connections_are_counted_by_server(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as one, server() as other, client_of(httpx, connections=9) as client:
            one.let_all()
            await client.get(one.url)
            holding = [asyncio.create_task(client.get(other.url)) for _ in range(2)]
            await until(lambda: other.received == 2)
            snapshot = await asyncio.to_thread(agent.snapshot)
            ports = {url.url.rpartition(":")[2]: name for name, url in (("one", one), ("other", other))}
            found = {
                (state, ports[port]): point.value
                for point in snapshot.points["http_connections"]
                for state, _, port in [point.labels]
            }
            assert found == {
                ("active", "one"): 0,
                ("idle", "one"): 1,
                ("active", "other"): 2,
                ("idle", "other"): 0,
            }
            other.let_all()
            await asyncio.gather(*holding)

    asyncio.run(main())


def test_through_a_proxy_the_wait_ends_when_the_request_is_sent(agent: Agent, httpx: Any, kind: str) -> None:
    """Not when the server has answered, which it does only once the wait has been read."""

    async def main() -> None:
        async with server() as remote:
            by = "proxy" if "proxy" in inspect.signature(httpx.AsyncClient).parameters else "proxies"
            async with client_of(httpx, **{by: remote.url}) as client:
                answer = asyncio.create_task(client.get("http://somewhere.test/"))
                while not remote.received:
                    await asyncio.sleep(0)
                assert (await pool_of(agent, kind)).wait_count == 1
                remote.let_all()
                await answer
                assert (await pool_of(agent, kind)).wait_count == 1

    asyncio.run(main())


def test_no_secret_is_shown(agent: Agent, httpx: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="loopwatch")

    async def main() -> None:
        async with server() as remote:
            remote.let_all()
            proxy = remote.url.replace("http://", "http://user:hunter2@")
            by = "proxy" if "proxy" in inspect.signature(httpx.AsyncClient).parameters else "proxies"
            more = {by: proxy, "headers": {"Authorization": "Bearer hunter2"}}
            async with client_of(httpx, **more) as client:
                await client.get("http://somewhere.test/?token=hunter2", auth=("hunter2", "hunter2"))
                snapshot = await asyncio.to_thread(agent.snapshot)
                pools = await asyncio.to_thread(agent.pools)
                assert (await pool_of(agent, kind)).wait_count == 1
                assert "hunter2" not in repr(snapshot) + repr(pools) + caplog.text

    asyncio.run(main())


def test_reading_does_not_trip_over_what_goes_on(agent: Agent, httpx: Any, kind: str) -> None:
    async def main() -> None:
        async with server() as remote, client_of(httpx) as client:
            remote.let_all()
            await read_under_churn(agent, kind, lambda: client.get(remote.url))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "off"),
    [
        ("attribute", "gauges"),
        ("method", "waits"),
        ("parameter", "waits"),
        ("class", "waits"),
        ("reading", "gauges"),
    ],
)
def test_a_version_that_is_not_as_we_know_it(
    httpx: Any,
    kind: str,
    change: str,
    off: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    core = importlib.import_module(kind)
    if change == "attribute":
        monkeypatch.delattr(core.AsyncConnectionPool, "connections")
    elif change == "method":
        send = core.AsyncHTTP11Connection._send_request_headers
        monkeypatch.setattr(core.AsyncHTTP11Connection, "_send_headers", send, raising=False)
        monkeypatch.delattr(core.AsyncHTTP11Connection, "_send_request_headers")
    elif change == "parameter":
        handle = core.AsyncConnectionPool.handle_async_request

        async def handle_async_request(self: Any, outgoing: Any) -> Any:
            return await handle(self, outgoing)

        monkeypatch.setattr(core.AsyncConnectionPool, "handle_async_request", handle_async_request)
    elif change == "class":
        monkeypatch.delattr(core, "PoolTimeout")
    else:
        monkeypatch.setattr(core.AsyncConnectionPool, "connections", property(lambda self: 1 // 0))

    async def main() -> None:
        agent = loopwatch.install(prometheus_port=None)
        try:
            async with server() as remote, client_of(httpx) as client:
                remote.let_all()
                if change != "method":  # which the library itself misses
                    assert (await client.get(remote.url)).text == "ok"
                for _ in range(4):
                    points = (await asyncio.to_thread(agent.snapshot)).points
                up = {point.labels[1]: point.value for point in points["reader_up"] if kind in point.labels}
                reads = int(change != "reading")  # of the same, for which holders are asked, too
                assert up == {"gauges": 1, "waits": 1, "holders": reads} | {off: 0}
                gone = "pool_usage" if off == "gauges" else "pool_wait"
                assert [point for point in points.get(gone, ()) if kind in point.labels] == []
        finally:
            loopwatch.uninstall()

    asyncio.run(main())
    assert len([record for record in caplog.records if f"pools of {kind} " in record.getMessage()]) == 1
