"""A client is let in and sent to a sibling in one go."""

import itertools
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

if sys.platform != "linux":
    pytest.skip("workers meet on Linux", allow_module_level=True)

from loopwatch.exporters.passing import receive
from loopwatch.exporters.taking import take_and_send


class Ends:
    """A listening socket, and both ends of a connection to a sibling."""

    def __init__(self, opened: ExitStack) -> None:
        self.opened = opened
        self.listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self.to, self.sibling = map(opened.enter_context, socket.socketpair())
        self.to.setblocking(False)
        self.sibling.settimeout(30.0)

    def connect(self) -> socket.socket:
        """Connect, and wait until that can be seen at the listener: the last word may be on its way."""
        asking = self.opened.enter_context(socket.create_connection(self.listener.getsockname(), 30.0))
        assert select.select([self.listener], [], [], 30.0)[0]
        return asking


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as opened:
        yield Ends(opened)


def test_both_have_the_same_connection(ends: Ends) -> None:
    asking = ends.connect()
    client, sent = take_and_send(ends.listener, ends.to)
    said, received = receive(ends.sibling, 100)
    assert received is not None
    with client, received:
        assert (sent, said) == (True, b"\0")
        assert {client.getpeername(), received.getpeername()} == {asking.getsockname()}
        assert (client.family, client.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert not client.get_inheritable()
        assert not os.get_blocking(client.fileno())
        client.send(b"first, ")
        received.send(b"second")
        assert asking.recv(100) == b"first, second"


def test_where_nobody_has_connected_it_is_an_error_at_once(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        take_and_send(ends.listener, ends.to)
    ends.to.close()
    assert ends.sibling.recv(1) == b""


def test_a_client_whom_the_sibling_cannot_be_sent_is_let_in(ends: Ends) -> None:
    asking = ends.connect()
    ends.sibling.close()
    client, sent = take_and_send(ends.listener, ends.to)
    with client:
        assert not sent
        client.send(b"here")
        assert asking.recv(100) == b"here"


def test_no_other_thread_comes_in_between(ends: Ends) -> None:
    """As one does at any system call that Python makes, and gives the GIL back after 5 ms."""
    steps = itertools.count()
    at = 0
    over = False

    def compute() -> None:
        nonlocal at
        while not over:
            at = next(steps)

    other = threading.Thread(target=compute)
    other.start()
    moved = []
    try:
        for _ in range(20):  # now and then the 5 ms end just here
            ends.connect()
            before = at
            client, _ = take_and_send(ends.listener, ends.to)
            moved.append(at - before)
            client.close()
    finally:
        over = True
        other.join()
    assert moved.count(0) > 10
