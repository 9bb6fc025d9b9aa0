"""An HTTP request and the response to it, whatever produces it and whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

from loopwatch._server import Wait

PLAIN = "text/plain; charset=utf-8"
METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    method: str
    path: str
    query: str
    """What follows the question mark; empty without one."""
    headers: Mapping[str, str]
    """By name, in lower case; headers that were not sent are empty."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body, and any further headers."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()
    file: int | None = None
    """File descriptor to pass along, to a process on this machine."""

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """The headers, with those that describe the body."""
        length = str(len(self.body))
        return [("Content-Type", self.content_type), ("Content-Length", length), *self.headers]


def refused(status: HTTPStatus, why: str) -> Answer:
    """Return a one-line answer that says why there is no other."""
    allow = (("Allow", ", ".join(METHODS)),) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    return Answer(status, f"{why}\n".encode("utf-8", "backslashreplace"), headers=allow)


def method_refused() -> Answer:
    """Return the answer to a method that might change something: nothing can be changed here."""
    return refused(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.")


Answering: TypeAlias = Generator[Wait, None, Answer]
"""An answer being made, which need not be ready at once."""

Respond = Callable[[Request], Answering]
"""Produces the answer to a request."""
