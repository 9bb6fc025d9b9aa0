"""A client of a process that dies is answered by a sibling, once; the conversations are driven by hand."""

from __future__ import annotations

import itertools
import math
import select
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import cast

import pytest

from loopwatch._server import Conversation, Wait
from loopwatch._threads import Imports
from loopwatch.exporters.answer import Answer, Answering, Request
from loopwatch.exporters.endpoint import MAX_REQUEST, Attendant, Nobody, converse
from loopwatch.exporters.meeting import Entry, Meeting
from loopwatch.exporters.standby import Standby, attend

REQUEST = b"GET /metrics HTTP/1.1\r\n\r\n"


def entry(pid: int) -> Entry:
    return Entry(pid, 1, "group", f"group-{pid}-1")


class Place:
    """Stands in for the meeting: the test hears what the siblings are asked."""

    def __init__(self, opened: ExitStack) -> None:
        self.shared = True
        self.entries = [entry(1), entry(2), entry(3)]
        self.busy: set[int] = set()
        self.dead: set[int] = set()
        """Those that are gone as soon as somebody has connected to them."""
        self.asked: list[int] = []
        self.heard: list[socket.socket] = []
        self.standby = Standby(Imports())
        self.standby.meeting = cast("Meeting", self)
        opened.callback(self.standby.close)
        self.port = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port.setblocking(False)
        self._opened = opened

    def connected(self) -> socket.socket:
        """Connect to the port, and wait until that can be seen there: the last word may be on its way."""
        asking = socket.create_connection(self.port.getsockname(), 30.0)
        assert select.select([self.port], [], [], 30.0)[0]
        return asking

    def others(self) -> list[Entry]:
        return list(self.entries)

    def connect(self, entry: Entry) -> socket.socket:
        self.asked.append(entry.pid)
        if entry.pid in self.busy:
            raise BlockingIOError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.heard.append(self._opened.enter_context(theirs))
        if entry.pid in self.dead:
            theirs.close()
        return ours


class Client:
    """A client, and the first process's conversation with it."""

    def __init__(self, place: Place, opened: ExitStack, respond: Callable[[Request], Answering]) -> None:
        self.socket, its = map(opened.enter_context, self._connection(place))
        self.socket.settimeout(30.0)
        its.setblocking(False)
        self._its = its
        self.conversation = converse(its, respond, beside=place.standby.beside)
        self.wait = next(self.conversation)

    def _connection(self, place: Place) -> tuple[socket.socket, socket.socket]:
        return place.connected(), place.standby.attended(place.port).accept()[0]

    def send(self, text: bytes) -> None:
        self.socket.sendall(text)

    def say(self, text: bytes) -> None:
        """Say this, and nothing else."""
        self._its.sendall(text)

    def advance(self) -> None:
        self.wait = next(self.conversation)

    def finish(self) -> None:
        """Go on until all is said, then close, as the server does."""
        for _ in self.conversation:
            pass
        self._its.close()

    def die(self) -> None:
        """End as in a process that is killed: nothing is said, the system closes what was open."""
        self.conversation.close()
        self._its.close()

    @property
    def heard(self) -> bytes:
        """All that it receives until the connection ends."""
        said = b""
        while more := self.socket.recv(1 << 16):
            said += more
        return said


class TakenOver(Client):
    """A client sent by a process that died, over a connection that holds only so much."""

    def _connection(self, place: Place) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair()

    def have_no_room(self) -> None:
        """Fill the connection, so that nothing more can be sent."""
        with suppress(BlockingIOError):
            while True:
                self._its.send(bytes(1 << 16))

    def have_room(self) -> None:
        """Read enough that something can be sent again."""
        while not select.select([], [self._its], [], 0)[1]:
            self.socket.recv(1 << 16)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def place(opened: ExitStack) -> Place:
    return Place(opened)


def answering(text: bytes, *, later: bool = False) -> Callable[[Request], Answering]:
    """Answer with this, at once or after one wait."""

    def respond(request: Request) -> Answering:
        if later:
            yield Wait(0, 0)
        return Answer(HTTPStatus.OK, text)

    return respond


def standing_by(
    place: Place, which: int = -1, *, says: bytes = b"second", later: bool = False
) -> Conversation:
    """The conversation of a sibling that was asked, up to where it waits for word of the asker."""
    take_over = partial(converse, respond=answering(says, later=later), beside=place.standby.beside)
    sibling = attend(place.heard[which], answering(b"a sibling's"), take_over)
    next(sibling)
    next(sibling)
    return sibling


@pytest.mark.parametrize("gathers", [True, False], ids=["as it gathers", "before it was asked"])
def test_a_client_of_a_process_that_dies_is_answered(place: Place, opened: ExitStack, gathers: bool) -> None:
    client = Client(place, opened, answering(b"first", later=True))
    if gathers:
        client.send(REQUEST)
        client.advance()
    sibling = standing_by(place)
    client.die()
    if not gathers:
        next(sibling)
        client.send(REQUEST)
    for _ in sibling:
        pass
    assert client.heard.endswith(b"\r\n\r\nsecond")


def test_one_that_is_answered_is_answered_once(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b"first"))
    sibling = standing_by(place)
    client.send(REQUEST)
    client.finish()
    assert list(sibling) == []
    heard = client.heard
    assert heard.endswith(b"\r\n\r\nfirst")
    assert heard.count(b"HTTP/1.1") == 1


def test_it_is_released_once_some_of_the_answer_could_be_sent(place: Place, opened: ExitStack) -> None:
    client = TakenOver(place, opened, answering(bytes(1 << 24)))
    sibling = standing_by(place)
    client.have_no_room()
    client.send(REQUEST)
    client.advance()
    assert client.wait.event == selectors.EVENT_WRITE
    next(sibling)
    client.have_room()
    client.advance()
    assert client.wait.event == selectors.EVENT_WRITE
    assert list(sibling) == []


def test_when_it_is_released_nothing_is_left_unread(opened: ExitStack) -> None:
    """As the connection closes, that would cut the answer off: nobody else is left to read it."""
    asking, its = map(opened.enter_context, socket.socketpair())
    its.setblocking(False)
    left: list[bytes] = []

    class Looking(Nobody):
        def begun(self) -> None:
            with suppress(BlockingIOError):
                left.append(its.recv(1, socket.MSG_PEEK))
            left.append(b"")

    @contextmanager
    def beside(client: socket.socket) -> Iterator[Attendant]:
        yield Looking()

    asking.sendall(REQUEST)
    for _ in converse(its, answering(b"first"), beside=beside):
        pass
    assert left == [b""]


def test_the_rest_is_sent_though_a_sibling_has_taken_the_request(opened: ExitStack) -> None:
    """It looked just as the answer began: it takes what would cut the answer off."""
    asking, its = map(opened.enter_context, socket.socketpair())
    its.setblocking(False)
    text = bytes(1 << 22)

    class Late(Nobody):
        def is_taken(self) -> bool:
            its.recv(MAX_REQUEST)
            return False

    @contextmanager
    def beside(client: socket.socket) -> Iterator[Attendant]:
        yield Late()

    asking.sendall(REQUEST)
    said = b""
    for wait in converse(its, answering(text), beside=beside):
        if wait.event == selectors.EVENT_WRITE:
            said += asking.recv(1 << 20)
    its.close()
    while more := asking.recv(1 << 20):
        said += more
    assert said.endswith(b"\r\n\r\n" + text)


def test_where_it_died_before_it_could_be_released_there_is_one_answer(
    place: Place, opened: ExitStack
) -> None:
    """The request is still in the connection, and would reset it, had the sibling left it there."""
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    sibling = standing_by(place)
    client.say(b"first")
    client.die()
    assert list(sibling) == []
    assert client.heard == b"first"


def test_in_the_turn_that_releases_it_the_answer_is_on_its_way(place: Place, opened: ExitStack) -> None:
    """A process stopped while it gathers its own part ends after that turn: no other one comes."""
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    with suppress(StopIteration):
        client.advance()
    client.die()
    assert client.heard.endswith(b"\r\n\r\nfirst")


def hang(sibling: Conversation) -> None:
    """Let as much time pass as a sibling waits for one that hangs."""
    next(sibling)
    next(sibling)


@pytest.mark.parametrize("gathers", [True, False], ids=["as it gathers", "before it was asked"])
@pytest.mark.parametrize("then", ["is dismissed", "goes on", "hangs on"])
def test_a_client_of_a_process_that_hangs_is_answered_once(
    place: Place, opened: ExitStack, gathers: bool, then: str
) -> None:
    client = Client(place, opened, answering(b"first", later=True))
    client.send(REQUEST)
    if gathers:
        client.advance()
    sibling = standing_by(place)
    hang(sibling)
    if then == "is dismissed":
        with pytest.raises(TimeoutError):
            client.conversation.throw(TimeoutError())
    elif then == "goes on":
        client.finish()
    assert list(sibling) == []
    heard = client.heard  # all of it: it sees the end, though one that hangs on has its connection open
    assert heard.endswith(b"\r\n\r\nsecond")
    assert heard.count(b"HTTP/1.1") == 1


def test_a_client_is_let_go_by_who_fails_beside_one_that_hangs(place: Place, opened: ExitStack) -> None:
    def fail(request: Request) -> Answering:
        raise ZeroDivisionError

    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    place.entries.clear()
    sibling = attend(place.heard[-1], fail, partial(converse, respond=fail, beside=place.standby.beside))
    next(sibling)
    next(sibling)
    hang(sibling)
    with pytest.raises(ZeroDivisionError):
        list(sibling)
    assert client.heard == b""


@pytest.mark.parametrize("then", ["answers", "dies"])
def test_who_has_taken_over_a_client_has_time_while_it_lives(
    place: Place, opened: ExitStack, then: str
) -> None:
    """Where all compute, answering takes long: were each overtaken by the next, none would ever answer."""
    client = Client(place, opened, answering(b"first", later=True))
    client.send(REQUEST)
    client.advance()
    second = standing_by(place, later=True)
    hang(second)
    next(second)
    third = standing_by(place, says=b"third")
    assert next(third).until == math.inf
    client.finish()
    if then == "dies":
        second.close()
    for _ in (*second, *third):
        pass
    heard = client.heard
    assert heard.endswith(b"\r\n\r\nsecond" if then == "answers" else b"\r\n\r\nthird")
    assert heard.count(b"HTTP/1.1") == 1


def test_one_that_has_begun_to_answer_as_it_hangs_is_left_to_that(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    sibling = standing_by(place)
    next(sibling)
    client.say(b"first")
    assert list(sibling) == []
    client.die()
    assert client.heard == b"first"


def test_a_client_that_has_not_asked_yet_has_time(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b"first"))
    sibling = standing_by(place)
    for _ in range(5):
        next(sibling)
    client.send(REQUEST)
    next(sibling)
    client.finish()
    assert list(sibling) == []
    assert client.heard.endswith(b"\r\n\r\nfirst")


def test_a_client_is_told_of_the_end_though_a_sibling_hangs(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    client.finish()
    assert client.heard.endswith(b"\r\n\r\nfirst")


def test_what_comes_in_pieces_is_answered_by_the_first_alone(place: Place, opened: ExitStack) -> None:
    """It has to be taken out of the connection, where a sibling would no longer find it."""
    client = Client(place, opened, answering(b"first", later=True))
    sibling = standing_by(place)
    client.send(REQUEST[:7])
    client.advance()
    assert list(sibling) == []
    client.send(REQUEST[7:])
    client.finish()
    assert client.heard.endswith(b"\r\n\r\nfirst")


def test_pieces_are_left_to_who_has_taken_over(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b"first"))
    sibling = standing_by(place)
    client.send(REQUEST[:7])
    hang(sibling)
    client.finish()
    next(sibling)
    client.send(REQUEST[7:])
    assert list(sibling) == []
    assert client.heard.endswith(b"\r\n\r\nsecond")


@pytest.mark.parametrize("pieces", [1, 3])
def test_one_that_asks_for_too_much_is_refused(place: Place, opened: ExitStack, pieces: int) -> None:
    client = Client(place, opened, answering(b"first"))
    for _ in range(pieces):
        client.send(b"A" * (MAX_REQUEST // pieces + 1))
        client.advance()
    client.socket.shutdown(socket.SHUT_WR)
    client.finish()
    assert client.heard.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("error", [TimeoutError(), ZeroDivisionError()], ids=["dismissed", "failed"])
def test_one_that_is_let_go_is_let_go_by_all(place: Place, opened: ExitStack, error: Exception) -> None:
    client = Client(place, opened, answering(b"first", later=True))
    client.send(REQUEST)
    client.advance()
    sibling = standing_by(place)
    with pytest.raises(type(error)):
        client.conversation.throw(error)
    client.die()
    assert list(sibling) == []
    assert client.heard == b""


def test_siblings_stand_by_in_turn_and_those_that_are_busy_are_passed_over(
    place: Place, opened: ExitStack
) -> None:
    for _ in range(4):
        Client(place, opened, answering(b"")).die()
    assert place.asked == [2, 3, 1, 2]
    place.busy = {3, 1}
    place.asked.clear()
    Client(place, opened, answering(b"")).die()
    assert place.asked == [3, 1, 2]


def test_one_that_hangs_is_passed_over_until_it_goes_on(place: Place, opened: ExitStack) -> None:
    """A client that it stood by for would wait for an answer that nobody gives."""

    def serve(hanging: int) -> list[int]:
        place.asked.clear()
        for _ in place.entries:
            client = Client(place, opened, answering(b"first"))
            if place.asked[-1] != hanging:
                standing_by(place)
            client.send(REQUEST)
            client.finish()
        return place.asked

    assert serve(hanging=3) == [2, 3, 1]
    waits = len(place.heard) - 2
    assert serve(hanging=3) == [2, 1, 1]
    standing_by(place, waits)
    assert serve(hanging=0) == [2, 3, 1]


@pytest.mark.parametrize("how", ["as one call", "without ctypes"])
def test_a_sibling_has_the_client_before_the_conversation_begins(
    place: Place, opened: ExitStack, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "without ctypes":
        monkeypatch.setitem(sys.modules, "loopwatch.exporters.taking", None)
    asking = opened.enter_context(place.connected())
    place.standby.attended(place.port).accept()[0].close()
    asking.sendall(REQUEST)
    place.standby.close()
    assert len(list(itertools.islice(standing_by(place), 10))) < 10
    assert asking.recv(1 << 16).endswith(b"\r\n\r\nsecond")


def test_nobody_stands_by_for_nobody(place: Place) -> None:
    """A client that connected may have gone away, or have been let in by another by now."""
    with pytest.raises(BlockingIOError):
        place.standby.attended(place.port).accept()
    sibling = attend(place.heard[-1], answering(b""), partial(converse, respond=answering(b"")))
    assert len(list(sibling)) == 2


def test_a_sibling_that_is_gone_just_now_does_no_harm(place: Place, opened: ExitStack) -> None:
    place.dead = {1, 2, 3}
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    client.finish()
    assert client.heard.endswith(b"\r\n\r\nfirst")


def test_where_the_first_has_just_died_the_next_one_stands_by(place: Place, opened: ExitStack) -> None:
    """And takes the client over, should this process hang: nobody has done so yet."""
    place.dead = {2}
    client = Client(place, opened, answering(b"first"))
    assert place.asked == [2, 3]
    client.send(REQUEST)
    sibling = standing_by(place)
    hang(sibling)
    assert list(sibling) == []
    assert client.heard.endswith(b"\r\n\r\nsecond")


def test_when_all_hang_one_of_them_is_asked_all_the_same(place: Place, opened: ExitStack) -> None:
    """They may only be slow."""
    for _ in range(6):
        client = Client(place, opened, answering(b"first"))
        client.send(REQUEST)
        client.finish()
    assert place.asked == [2, 3, 1, 2, 3, 1]


def test_a_client_whose_process_died_before_a_sibling_came_is_answered(
    place: Place, opened: ExitStack
) -> None:
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    client.die()
    for _ in standing_by(place):
        pass
    assert client.heard.endswith(b"\r\n\r\nsecond")


def test_a_sibling_that_only_asks_is_answered(place: Place, opened: ExitStack) -> None:
    client = Client(place, opened, answering(b""))
    asking = opened.enter_context(place.connect(entry(1)))
    client.die()
    sibling = attend(place.heard[-1], answering(b"a sibling's"), partial(converse, respond=answering(b"")))
    next(sibling)
    asking.send(REQUEST)
    for _ in sibling:
        pass
    assert asking.recv(1 << 16).endswith(b"\r\n\r\na sibling's")


@pytest.mark.parametrize("why", ["no meeting", "alone", "all gone"])
def test_without_siblings_it_is_answered_all_the_same(place: Place, opened: ExitStack, why: str) -> None:
    place.standby.meeting = None if why == "no meeting" else place.standby.meeting
    place.shared = why != "alone"
    place.entries = [] if why == "all gone" else place.entries
    client = Client(place, opened, answering(b"first"))
    client.send(REQUEST)
    client.finish()
    assert client.heard.endswith(b"\r\n\r\nfirst")
    assert place.asked == []
