"""``/loopwatch.json``: the document of this process, or of another worker that shares the port."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import parse_qs

from loopwatch._clock import Clock
from loopwatch._document import PATH, Document, write
from loopwatch._journal import Journal

from .answer import Answer, Answering, Request, refused
from .meeting import Meeting
from .siblings import Siblings

COMPONENT = "document"
"""The component under which failures to make it are counted."""
TYPE = "application/json"
WITHIN = 1.5
"""Seconds that another worker has for its document. More than for a scrape: where all compute it takes most
of one, and ``loopwatch top`` has 5 s. Less than those after which a sibling thinks that we hang."""


class DocumentPage:
    """Answers with documents, each made for the client that asks; ``?brief=1`` asks for a shorter one.

    The endpoint's thread.
    """

    def __init__(self, make: Callable[[bool], Document], journal: Journal) -> None:
        self._make = make
        self._journal = journal

    def answer(self, request: Request, meeting: Meeting | None) -> Answer:
        """Answer with the document of this process, which lists the processes it shares the port with."""
        others = [entry.pid for entry in meeting.others()] if meeting is not None else []
        try:
            made = self._make(_is_brief(request))
            document = replace(made, workers=tuple(sorted((os.getpid(), *others))))
            return Answer(HTTPStatus.OK, write(document), TYPE, (("Cache-Control", "no-store"),))
        except Exception as error:  # noqa: BLE001 - counted; the client learns that it is not at fault
            self._journal.failure(COMPONENT, error)
            why = f"loopwatch failed to make its document ({type(error).__name__}); its log says more."
            return refused(HTTPStatus.INTERNAL_SERVER_ERROR, why)

    def answer_of_any(self, request: Request, meeting: Meeting | None, clock: Clock) -> Answering:
        """Answer with the document of the worker that ``?pid=`` names, by default this one."""
        asked = parse_qs(request.query).get("pid", [""])[-1]
        if asked in ("", str(os.getpid())):
            return self.answer(request, meeting)
        others = meeting.others() if meeting is not None else []
        entries = [entry for entry in others if str(entry.pid) == asked]
        if meeting is None or not entries:
            pids = ", ".join(map(str, sorted((os.getpid(), *(entry.pid for entry in others)))))
            why = f"No process {asked[:20]!a} shares this port; there are {pids}."
            return refused(HTTPStatus.NOT_FOUND, why)
        siblings = Siblings(meeting, clock)
        yield from siblings.ask(entries, f"{PATH}?brief=1" if _is_brief(request) else PATH, TYPE, WITHIN)
        text = siblings.texts.get(entries[0].pid)
        if text is None:
            why = f"Process {asked} does not answer: C code may hold its GIL, or it was stopped."
            return refused(HTTPStatus.GATEWAY_TIMEOUT, why)
        return Answer(HTTPStatus.OK, text, TYPE, (("Cache-Control", "no-store"),))


def _is_brief(request: Request) -> bool:
    return "brief" in parse_qs(request.query)
