"""What the endpoint has at which path, and who may have it.

No page of another site may read these pages through a browser: neither by a script that requests them (its
Origin says so), nor by resolving its own name to this machine (DNS rebinding: the Host is that name). An
address, or ``localhost``, cannot be made to resolve elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from .answer import METHODS, Answer, Answering, Request, Respond, method_refused, refused

METRICS = "/metrics"


@dataclass(frozen=True, slots=True)
class Page:
    """What is at one path."""

    respond: Respond
    title: str
    """What it is, in words, such as "the metrics"."""
    by_any_name: bool = False
    """Whether the Host may be any name: for pages scraped under whatever name the scraper uses."""


class Pages:
    """Answers requests by their path. ``host`` is the name that this endpoint was given."""

    def __init__(self, pages: Mapping[str, Page], host: str) -> None:
        self._pages = pages
        self._host = host.lower()

    def respond(self, request: Request) -> Answering:
        """Answer a request, by a one-line error if there is nothing else to say."""
        page = self._pages.get(request.path)
        problem = self._problem(request, by_any_name=page is not None and page.by_any_name)
        if problem is not None:
            return refused(HTTPStatus.FORBIDDEN, problem)
        if page is not None and request.method in METHODS:
            return (yield from page.respond(request))
        if request.method not in METHODS:
            return method_refused()
        where = "; ".join(f"{page.title} at {path}" for path, page in self._pages.items())
        if request.path == "/":
            return Answer(HTTPStatus.OK, f"loopwatch: {where}\n".encode())
        return refused(HTTPStatus.NOT_FOUND, f"Nothing here; {where}")

    def _problem(self, request: Request, *, by_any_name: bool) -> str | None:
        """Say why a request is not answered; None if it is."""
        host, origin = (request.headers[name].rstrip(",").strip() for name in ("host", "origin"))
        if origin and origin.lower().rpartition("://")[2] != host.lower():
            return "Scripts of other sites are not answered: the Origin is not this address."
        if host and not by_any_name and not self._is_here(host):
            return (
                "The Host is a name that need not be this machine's. Ask by its address, as in "
                "http://127.0.0.1, or have the proxy in between do so."
            )
        return None

    def _is_here(self, host: str) -> bool:
        """Whether ``host`` is an address, or a name that nobody else can make resolve to this machine."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in ("localhost", self._host) or name.endswith(".localhost") or is_address(name)


def is_address(name: str) -> bool:
    """Whether ``name`` is an address, rather than a name that resolves to one."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether something that listens at ``host`` can be reached only from this machine."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
