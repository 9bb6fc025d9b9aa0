"""An HTTP response, whatever makes it and whatever carries it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

from loopwatch._server import Wait

PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body, and the headers there are to it."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """The headers, with those that describe the body."""
        length = str(len(self.body))
        return [("Content-Type", self.content_type), ("Content-Length", length), *self.headers]


Answering: TypeAlias = Generator[Wait, None, Answer]
"""An answer in the making, which need not be there at once."""
