"""The answer to a scrape: the two text formats of the exposition, and which of them a client gets."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from loopwatch._journal import Journal

from .answer import METHODS, Answer, Request, method_refused
from .prometheus import COMPONENT


@dataclass(frozen=True, slots=True)
class Form:
    """One format of the exposition, written by prometheus_client."""

    write: Callable[[Collector], bytes]
    content_type: str


TEXT = Form(*choose_encoder(""))
OPENMETRICS = Form(*choose_encoder("application/openmetrics-text"))


def form_for(accept: str) -> Form:
    """Choose OpenMetrics for clients that list it in their Accept header, the classic text for all others.

    ``choose_encoder`` is not given the client's header: it raises on a malformed version, and no client may
    cause what counts as a failure of ours.
    """
    media_types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return OPENMETRICS if "application/openmetrics-text" in media_types else TEXT


def answer(method: str, accept: str, write: Callable[[Form], bytes], journal: Journal) -> Answer:
    """Answer a request for the metrics with what ``write`` makes of the form chosen for the client."""
    if method not in METHODS:
        return method_refused()
    form = form_for(accept)
    try:
        return Answer(HTTPStatus.OK, write(form), form.content_type)
    except Exception as error:  # noqa: BLE001 - counted; the client learns that it is not at fault
        journal.failure(COMPONENT, error)
        message = f"loopwatch failed to render its metrics ({type(error).__name__}); its log says more.\n"
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, message.encode())


class Exposition:
    """The endpoint's view of ``registry``: written for each scrape, compressed if the client accepts that."""

    def __init__(self, registry: Collector, journal: Journal) -> None:
        self._registry = registry
        self._journal = journal

    def answer(self, request: Request, write: Callable[[Form], bytes] | None = None) -> Answer:
        """Answer a scrape. ``write``, if given, replaces the registry's text by its own."""
        response = answer(request.method, request.headers["accept"], write or self.write, self._journal)
        if response.status is HTTPStatus.OK and gzip_accepted(request.headers["accept-encoding"]):
            compressed = (*response.headers, ("Content-Encoding", "gzip"))
            return replace(response, body=gzip.compress(response.body), headers=compressed)
        return response

    def write(self, form: Form) -> bytes:
        """Write the text of the registry. Raises what its collectors raise."""
        return form.write(self._registry)
