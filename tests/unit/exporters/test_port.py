"""The address of the endpoint: had at once, waited for, taken over, or reported."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from loopwatch._journal import Journal
from loopwatch._server import at_once
from loopwatch._settings import RUN
from loopwatch._threads import Imports
from loopwatch.exporters.answer import Answer, Answering, Request
from loopwatch.exporters.endpoint import Endpoint
from loopwatch.exporters.meeting import Entry
from loopwatch.exporters.port import AGAIN, TRIES, Port
from loopwatch.testing import FakeClock

PATIENCE = 30.0


class Claims:
    """Stands in for the meeting: the test decides whether the claim can be had."""

    def __init__(self) -> None:
        self.is_free = True
        self.shared = False
        self.by: tuple[int | None, str | None] = None, None
        self.tries = 0
        self.published: list[str | None] = []
        self.siblings: dict[Entry, Bench] = {}
        self.busy = False

    def others(self) -> list[Entry]:
        return sorted(self.siblings)

    def connect(self, entry: Entry) -> socket.socket:
        """Connect to a sibling, which will answer once its endpoint has its turn."""
        if self.busy:
            raise BlockingIOError
        ours, its = socket.socketpair()
        self.siblings[entry].let_in(its)
        return ours

    def claim(self) -> bool:
        self.tries += 1
        return self.is_free

    def claimant(self) -> tuple[int | None, str | None]:
        return self.by

    def publish(self, url: str | None) -> None:
        self.published.append(url)


def respond(request: Request) -> Answering:
    yield from ()
    return Answer(HTTPStatus.OK, b"here")


class Bench:
    """A port with an endpoint whose thread is the test."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.fake = FakeClock()
        self.endpoint = Endpoint(Journal(), clock=self.fake.clock)
        self.claims = Claims()
        self.port = Port(host, port, self.endpoint, respond, at_once, Imports(), Journal())

    def share(self) -> None:
        self.port.share(self.claims)  # type: ignore[arg-type]

    def let_in(self, connection: socket.socket) -> None:
        """Answer a sibling's question with the socket."""

        def answer() -> None:
            its = self.port.handover.answer()
            assert connection.recv(1024).startswith(b"GET /listener ")
            socket.send_fds(connection, [b"HTTP"], [] if its.file is None else [its.file])
            self.endpoint.no_more(connection)
            connection.close()

        self.endpoint.when(connection, answer)

    def pass_time(self) -> None:
        """Let the endpoint wake up when it wants to look again."""
        self.fake.advance(AGAIN)
        self.endpoint._turn()

    def close(self) -> None:
        self.endpoint.close()
        self.port.close()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with ExitStack() as closed:

        def make(host: str = "127.0.0.1", port: int = 0) -> Bench:
            bench = Bench(host, port)
            closed.callback(bench.close)
            return bench

        yield make


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN, raising=False)


Make = Callable[..., Bench]

handed_over = pytest.mark.skipif(sys.platform != "linux", reason="workers meet on Linux")
"""For tests in which the socket itself goes from one to another."""


def address(bench: Bench) -> tuple[str, int]:
    return "127.0.0.1", int(str(bench.port.url).rpartition(":")[2].partition("/")[0])


def connect(bench: Bench) -> socket.socket:
    """Connect, and wait until that can be seen at the listening end: the last word may be on its way."""
    client = socket.create_connection(address(bench))
    assert select.select([bench.port.handover.listener], [], [], PATIENCE)[0]
    return client


def hand_over(giver: Bench, taker: Bench) -> None:
    """Let ``giver`` answer what ``taker`` has asked."""
    assert taker.port.handover._asked
    giver.endpoint._turn()
    taker.endpoint._turn()


def body(bench: Bench) -> bytes:
    bench.endpoint.start()
    try:
        with urllib.request.urlopen(str(bench.port.url), timeout=PATIENCE) as response:
            return response.read()  # type: ignore[no-any-return]
    finally:
        bench.endpoint.stop()


class TestAlone:
    """Without siblings."""

    def test_it_is_served_at_the_url(self, bench: Make) -> None:
        alone = bench()
        alone.port.take()
        assert body(alone) == b"here"

    def test_a_taken_one_is_an_error_at_once(self, bench: Make) -> None:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            alone = bench(port=holder.getsockname()[1])
            with pytest.raises(OSError, match="in use"):
                alone.port.take()
        assert alone.port.url is None

    def test_a_wildcard_address_is_shown_as_loopback(self, bench: Make) -> None:
        alone = bench("0.0.0.0")
        alone.port.take()
        assert str(alone.port.url).startswith("http://127.0.0.1:")
        assert body(alone) == b"here"

    @pytest.mark.skipif(not socket.has_ipv6, reason="needs: IPv6")
    @pytest.mark.parametrize("host", ["::1", "::"])
    def test_an_ipv6_address_is_served_and_stands_in_brackets(self, bench: Make, host: str) -> None:
        alone = bench(host)
        alone.port.take()
        assert str(alone.port.url).startswith("http://[::1]:")
        assert body(alone) == b"here"

    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs: dual-stack sockets")
    def test_the_ipv6_wildcard_serves_ipv4_as_well(self, bench: Make) -> None:
        alone = bench("::")
        alone.port.take()
        alone.port.url = str(alone.port.url).replace("[::1]", "127.0.0.1")
        assert body(alone) == b"here"


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and wait until it has ended: on a busy machine, that takes a while."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def pair(bench: Make) -> tuple[Bench, Bench]:
    """Return the one that answers at the address, and a sibling that was given the socket."""
    first, second = bench(), bench()
    first.share()
    second.claims.siblings = {Entry(1, 1, "group", "1"): first}
    second.claims.is_free, second.claims.by = False, (1, first.port.url)
    second.share()
    hand_over(first, second)
    return first, second


class TestShared:
    """With siblings that may have the address."""

    def test_who_has_the_claim_takes_it_and_says_where(self, bench: Make) -> None:
        first = bench()
        first.share()
        assert first.claims.published == [first.port.url]
        assert body(first) == b"here"

    def test_the_others_say_where_it_is_and_try_again(self, bench: Make) -> None:
        second = bench()
        second.claims.is_free, second.claims.by = False, (None, "http://first/metrics")
        second.share()
        assert second.port.url == "http://first/metrics"
        for _ in range(5):
            second.pass_time()
        assert second.claims.tries == 6
        second.claims.is_free = True
        second.pass_time()
        assert second.port.url == second.claims.published[0] != "http://first/metrics"
        assert body(second) == b"here"

    def test_once_had_it_is_not_asked_for_again(self, bench: Make) -> None:
        first = bench()
        first.share()
        first.endpoint.later(AGAIN, lambda: None)  # or nothing would wake it
        first.pass_time()
        assert first.claims.tries == 1

    @pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs: pidfd_open")
    def test_the_end_of_who_has_it_is_noticed_at_once(self, bench: Make) -> None:
        second = bench()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
            second.claims.is_free, second.claims.by = False, (first.pid, "http://first/metrics")
            second.share()
            kill(first)
            second.claims.is_free = True
            second.endpoint._turn()  # without any time having passed
            assert second.claims.tries == 2
            assert second.port.url == second.claims.published[0]

    @pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs: pidfd_open")
    def test_a_dead_one_whose_claim_went_to_another_sibling_is_not_looked_at_again(self, bench: Make) -> None:
        """Its end stays readable for ever: that must not keep us turning in circles."""
        second = bench()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
            second.claims.is_free, second.claims.by = False, (first.pid, "http://first/metrics")
            second.share()
            kill(first)
            second.endpoint._turn()
            tries = second.claims.tries
            for number in range(3):
                second.pass_time()
                assert second.claims.tries == tries + number + 1
            second.claims.by = os.getpid(), "http://third/metrics"
            second.pass_time()
            assert second.port.url == "http://third/metrics"

    @handed_over
    def test_the_socket_is_had_from_who_has_it_and_served_when_that_is_gone(self, bench: Make) -> None:
        first, second, third = bench(), bench(), bench()
        first.share()
        entries = [Entry(1, 1, "group", "1"), Entry(2, 1, "group", "2")]
        second.claims.siblings = {entries[0]: first, entries[1]: third}
        second.claims.is_free, second.claims.by = False, (1, first.port.url)
        second.share()
        hand_over(first, second)
        assert len(third.endpoint._selector.get_map()) == 1  # it has not been asked
        with socket.create_connection(address(first)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            first.close()
            second.claims.is_free = True
            second.pass_time()
            assert second.port.url == first.port.url
            second.endpoint.start()
            client.settimeout(PATIENCE)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            second.endpoint.stop()

    @handed_over
    def test_who_has_the_claim_without_the_socket_gets_it_from_whoever_has_it(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The holder of both died before it had handed the socket to us, but after it had to another."""
        holder = bench()
        holder.port.take()
        empty, newcomer = bench(), bench(port=address(holder)[1])
        newcomer.claims.siblings = {Entry(1, 1, "g", "1"): empty, Entry(2, 1, "g", "2"): holder}
        newcomer.share()
        assert newcomer.port.url is None
        assert newcomer.port.handover._asked
        for each in (empty, holder):
            each.endpoint._turn()
        for _ in newcomer.claims.siblings:  # their answers need not come in one turn
            if newcomer.port.url is None:
                newcomer.endpoint._turn()
        assert newcomer.claims.published == [None, holder.port.url]
        assert caplog.records == []

    @handed_over
    def test_a_sibling_that_hung_and_had_many_to_answer_is_asked_once_it_goes_on(
        self, bench: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        holder = bench()
        holder.port.take()
        newcomer = bench(port=address(holder)[1])
        newcomer.claims.siblings, newcomer.claims.busy = {Entry(1, 1, "g", "1"): holder}, True
        newcomer.share()
        for _ in range(2 * TRIES):
            newcomer.pass_time()
        assert len(caplog.records) == 1  # it has been given up, as if the holder were a stranger
        newcomer.claims.busy = False
        for _ in range(TRIES):
            newcomer.pass_time()
        hand_over(holder, newcomer)
        assert newcomer.port.url == holder.port.url

    @handed_over
    def test_who_waits_at_two_looks_is_let_in_by_another(self, bench: Make) -> None:
        first, second = pair(bench)
        with connect(first) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            second.pass_time()
            assert second.endpoint._clients == []
            second.pass_time()
            assert len(second.endpoint._clients) == 1
            second.endpoint.start()
            client.settimeout(PATIENCE)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            second.endpoint.stop()

    @handed_over
    @pytest.mark.parametrize("by", ["the first", "another"])
    def test_who_is_let_in_is_sent_to_a_sibling_at_once(
        self, bench: Make, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from loopwatch.exporters import taking

        sent: list[bool] = []
        take_and_send = taking.take_and_send

        def noted(listener: socket.socket, to: socket.socket) -> tuple[socket.socket, bool]:
            client, is_sent = take_and_send(listener, to)
            sent.append(is_sent)
            return client, is_sent

        monkeypatch.setattr(taking, "take_and_send", noted)
        first, second = pair(bench)
        letting = first if by == "the first" else second
        letting.claims.shared, letting.claims.siblings = True, {Entry(3, 1, "group", "3"): first}
        ours, its = socket.socketpair()
        monkeypatch.setattr(letting.claims, "connect", lambda entry: ours)
        with its, connect(first):
            for _ in range(2):
                if not sent:  # else there is nothing more to come, for which a turn would wait
                    letting.pass_time()
        assert sent == [True]

    @handed_over
    def test_who_is_let_in_between_two_looks_is_left_to_the_first(self, bench: Make) -> None:
        first, second = pair(bench)
        with ExitStack() as clients:
            for _ in range(3):
                clients.enter_context(connect(first))
                second.pass_time()
                first.endpoint._turn()
                second.pass_time()
        assert len(first.endpoint._clients) == 3
        assert second.endpoint._clients == []

    @handed_over
    def test_who_has_done_his_share_lets_nobody_in(
        self, bench: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = pair(bench)
        monkeypatch.setattr(second.port, "_rest", lambda: 1.0)
        with connect(first):
            for _ in range(5):
                second.pass_time()
            assert second.endpoint._clients == []
            monkeypatch.setattr(second.port, "_rest", at_once)
            second.pass_time()
            assert len(second.endpoint._clients) == 1

    @handed_over
    def test_the_address_is_free_when_the_last_has_let_go(self, bench: Make) -> None:
        first, second = pair(bench)
        where = address(first)
        first.close()
        with pytest.raises(OSError, match="in use"):
            socket.create_server(where)
        second.close()
        socket.create_server(where).close()

    @handed_over
    def test_what_came_is_inherited_by_no_program_and_blocks_nobody(self, bench: Make) -> None:
        _, second = pair(bench)
        listener = second.port.handover.listener
        assert listener is not None
        assert not listener.get_inheritable()
        with pytest.raises(BlockingIOError):
            listener.accept()

    def test_files_are_closed(self, bench: Make) -> None:
        if not os.path.exists("/proc/self/fd"):
            pytest.skip("needs: /proc")
        before = len(os.listdir("/proc/self/fd"))
        second = bench()
        second.claims.is_free, second.claims.by = False, (os.getpid(), None)
        second.share()
        assert len(os.listdir("/proc/self/fd")) > before
        second.close()
        assert len(os.listdir("/proc/self/fd")) == before


class TestStranger:
    """Another program has the port."""

    @pytest.fixture
    def stranger(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as stranger:
            yield stranger

    def test_it_is_told_of_once_and_waited_for(
        self, bench: Make, stranger: socket.socket, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "loopwatch")
        port = stranger.getsockname()[1]
        ours = bench(port=port)
        ours.share()
        for _ in range(2 * TRIES):
            ours.pass_time()
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert f"no /metrics endpoint, since 127.0.0.1:{port} cannot be had" in record.getMessage()
        assert ours.port.url is None
        assert set(ours.claims.published) == {None}
        stranger.close()
        ours.pass_time()
        assert caplog.messages[1:] == [f"loopwatch: the metrics are at {ours.port.url} now"]
        assert body(ours) == b"here"

    def test_after_a_sibling_is_gone_it_is_told_of_only_if_it_stays(
        self, bench: Make, stranger: socket.socket, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A dying process may give up its socket last."""
        second = bench(port=stranger.getsockname()[1])
        second.claims.is_free = False
        second.share()
        second.claims.is_free = True
        for _ in range(TRIES - 1):
            second.pass_time()
        assert caplog.records == []
        second.pass_time()
        second.pass_time()
        assert len(caplog.records) == 1

    def test_what_is_no_matter_of_time_is_an_error(self, bench: Make) -> None:
        ours = bench("192.0.2.1", 1)
        with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is looked at
            ours.share()
        assert raised.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("run", "further", "level"),
    [
        (False, "", logging.WARNING),
        (True, "", logging.DEBUG),
        (False, " Why.", logging.WARNING),
        (True, " Why.", logging.WARNING),
    ],
)
def test_under_run_only_what_run_could_not_know_is_a_warning(
    bench: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    run: bool,
    further: str,
    level: int,
) -> None:
    if run:
        monkeypatch.setenv(RUN, "1")
    caplog.set_level(logging.DEBUG, "loopwatch")
    bench().port.complain(OSError(98, "Address already in use"), further)
    [record] = caplog.records
    assert record.levelno == level
    assert record.getMessage().endswith(f"None for no endpoint.{further}")
