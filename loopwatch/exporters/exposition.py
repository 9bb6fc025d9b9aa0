"""What a scrape is answered with: the two texts of the exposition, and which of them a client gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from loopwatch._journal import Journal

from .prometheus import COMPONENT

METHODS = ("GET", "HEAD")
PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Form:
    """One format of the exposition, written by prometheus_client."""

    write: Callable[[Collector], bytes]
    content_type: str


TEXT = Form(*choose_encoder(""))
OPENMETRICS = Form(*choose_encoder("application/openmetrics-text"))


def form_for(accept: str) -> Form:
    """Choose OpenMetrics for clients that list it in their Accept header, the classic text for all others.

    ``choose_encoder`` is not asked with the client's header: it raises on a malformed version, and no client
    may cause what counts as a failure of ours.
    """
    media_types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return OPENMETRICS if "application/openmetrics-text" in media_types else TEXT


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, whatever carries it."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """The headers, with those that describe the body."""
        length = str(len(self.body))
        return [("Content-Type", self.content_type), ("Content-Length", length), *self.headers]


def answer(method: str, accept: str, write: Callable[[Form], bytes], journal: Journal) -> Answer:
    """Answer a request for the metrics with what ``write`` makes of the form the client gets."""
    if method not in METHODS:
        allow = (("Allow", ", ".join(METHODS)),)
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET and HEAD are answered.\n", headers=allow)
    form = form_for(accept)
    try:
        return Answer(HTTPStatus.OK, write(form), form.content_type)
    except Exception as error:  # noqa: BLE001 - counted; the client learns that it was not its fault
        journal.failure(COMPONENT, error)
        message = f"loopwatch failed to render its metrics ({type(error).__name__}); its log says more.\n"
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, message.encode())
