"""What a port shared by several workers shows: the metrics of all, each series with its ``process_pid``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from prometheus_client import Metric

from loopwatch import facts
from loopwatch._clock import Clock
from loopwatch._measures import Point

from .answer import Answering, Request
from .exposition import Exposition, Form, form_for
from .meeting import Meeting
from .merge import Merged, NotOursError
from .pages import METRICS
from .prometheus import family
from .siblings import WITHIN, Siblings


class SharedExposition:
    """What the endpoint shows of all workers; as if it were alone, while this is the only one so far.

    So a program of one process has its usual series. The label comes with the second process and stays when
    that is gone, or the series would break each time a process ends.
    """

    def __init__(self, own: Exposition, meeting: Meeting, clock: Clock) -> None:
        self._own = own
        self._meeting = meeting
        self._clock = clock

    def answer(self, request: Request) -> Answering:
        """Answer a scrape, as ``Exposition`` does."""
        others = self._meeting.others()
        if not self._meeting.shared:
            return self._own.answer(request)
        siblings = Siblings(self._meeting, self._clock)
        yield from siblings.ask(others, METRICS, form_for(request.headers["accept"]).content_type, WITHIN)
        return self._own.answer(request, lambda form: self._write(form, siblings.texts))

    def _write(self, form: Form, texts: Mapping[int, bytes | None]) -> bytes:
        merged, up = Merged(), {}
        for pid, text in {os.getpid(): self._own.write(form), **texts}.items():
            up[pid] = text is not None and _added(merged, text, pid)
        points = [Point((str(pid),), float(is_up)) for pid, is_up in sorted(up.items())]
        workers = form.write(_Families([family(facts.BY_STEM["worker_up"], points)])).decode()
        return (merged.text() + workers).encode()


class _Families:
    """A collector of families that exist already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _added(merged: Merged, text: bytes, pid: int) -> bool:
    try:
        merged.add(text.decode(), pid)
    except (NotOursError, UnicodeDecodeError):
        return False
    return True
