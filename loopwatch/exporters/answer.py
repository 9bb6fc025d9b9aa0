"""An HTTP response, whatever makes it and whatever carries it."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, TypeAlias

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


class HasFile(Protocol):
    """What a selector can wait on."""

    def fileno(self) -> int:
        """Return the number of its file."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What has to happen before a conversation can go on: an event of a file, or that it is too late."""

    file: HasFile | int
    event: int
    """Of ``selectors``."""
    until: float = math.inf
    """In monotonic time."""


Answering: TypeAlias = Generator[Wait, None, Answer]
"""An answer in the making, which need not be there at once."""
