"""The document of another worker is waited for longer than a scrape, and yet not too long."""

from __future__ import annotations

import socket
from collections import defaultdict
from contextlib import closing
from http import HTTPStatus
from typing import cast

import pytest

from loopwatch._document import PATH
from loopwatch._journal import Journal
from loopwatch.exporters import siblings, standby
from loopwatch.exporters.answer import Request
from loopwatch.exporters.document import WITHIN, DocumentPage
from loopwatch.exporters.meeting import Entry, Meeting
from loopwatch.testing import FakeClock


class Place:
    """In the place of the meeting, with one that never answers."""

    def __init__(self) -> None:
        self.theirs: list[socket.socket] = []

    def others(self) -> list[Entry]:
        return [Entry(1, 1, "group", "group-1-1")]

    def connect(self, entry: Entry) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.append(theirs)
        return ours


def test_a_worker_has_longer_for_its_document_than_for_a_scrape() -> None:
    fake, place = FakeClock(), Place()
    page = DocumentPage(lambda brief: pytest.fail("it is another one's"), Journal())
    request = Request("GET", PATH, "pid=1", defaultdict(str))
    answering = page.answer_of_any(request, cast("Meeting", place), fake.clock)
    assert next(answering).until == pytest.approx(fake.monotonic() + WITHIN)
    assert siblings.WITHIN < WITHIN < 2 * standby.LOOKS
    fake.advance(WITHIN)
    with pytest.raises(StopIteration) as ended, closing(place.theirs[0]):
        next(answering)
    assert ended.value.value.status == HTTPStatus.GATEWAY_TIMEOUT
