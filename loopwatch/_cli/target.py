"""Where ``loopwatch top`` and ``loopwatch doctor`` get their documents: an address, or a process."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from loopwatch._consoles import Client, found
from loopwatch._document import PATH, Document, DocumentError, read

DEFAULT = "http://127.0.0.1:9464"
WITHIN = 5.0
"""Seconds to wait for an answer: far longer than it takes, even if the program computes in Python."""
LONGEST = 64 * 1024 * 1024
"""Bytes of a document; a longer one is not ours."""


class NoAnswerError(Exception):
    """No document could be fetched. The text says why, in a few words."""


class Target(Protocol):
    """A process, or several that share a port."""

    @property
    def name(self) -> str:
        """The target's name on the screen."""

    def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
        """Fetch the document of the worker ``pid``, else of whichever answers. Raises NoAnswerError.

        A brief one has only the loops and the stalls in progress, and costs the process next to nothing.
        """


@dataclass(frozen=True, slots=True)
class Address:
    """The endpoint beside the metrics."""

    name: str
    secure: bool
    host: str
    port: int
    path: str

    def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
        """Ask the endpoint. Raises NoAnswerError."""
        wanted = [*([f"pid={pid}"] if pid is not None else []), *(["brief=1"] if brief else [])]
        try:
            return read(self._get(f"{self.path}?{'&'.join(wanted)}" if wanted else self.path))
        except DocumentError as error:
            raise NoAnswerError(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(_reason(error)) from None

    def _get(self, path: str) -> bytes:
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=WITHIN)
        try:
            connection.request("GET", path, headers={"Host": self._host(), "Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read(LONGEST + 1)
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            line = body.decode("utf-8", "replace").strip().partition("\n")[0]
            raise NoAnswerError(f"it says {answer.status}: {line[:200]}")
        if len(body) > LONGEST:
            raise NoAnswerError("its answer is too long for a document")
        return body

    def _host(self) -> str:
        """Return the Host header, an address: endpoints reject names, since anybody can point one at them."""
        if self.secure:  # the certificate is checked against the name, and a proxy is in between
            return self.host
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][4][0]
        address = str(found).partition("%")[0]
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {WITHIN:.0f} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{type(error).__name__}: {error}".rstrip(": ")


def target_of(text: str) -> Target:
    """Return the target for a URL, HOST:PORT or pid. Raises a ValueError that says what is wrong with it."""
    if text.isdecimal():
        return Process(int(text))
    url = text if "://" in text else f"http://{text}"
    if "@" in url:  # not echoed: the part before it may be a password
        raise ValueError("a URL with a user's name is not understood: give HOST:PORT alone")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{text!r}: {parts.scheme} is neither http nor https")
    if not host:
        raise ValueError(f"{text!r} names no host. Give a URL such as {DEFAULT}, or a pid.")
    secure = parts.scheme == "https"
    port = port if port is not None else 443 if secure else 80
    path = parts.path.rstrip("/").removesuffix("/metrics").removesuffix(PATH) + PATH
    shown = f"[{host}]" if _is_v6(host) else host
    return Address(f"{shown}:{port}", secure, host, port, path)


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Process:
    """The line console of a process, which exists even without an endpoint."""

    own_pid: int

    @property
    def name(self) -> str:
        """The target's name, after its socket."""
        return "its console socket"

    def fetch(self, pid: int | None = None, *, brief: bool = False) -> Document:
        """Ask the console of the process ``pid``, by default of this target's. Raises NoAnswerError."""
        asked = self.own_pid if pid is None else pid
        path = next((each.path for each in found() if each.pid == asked), None)
        if path is None:
            raise NoAnswerError(f"no process {asked} of this user runs an event loop under loopwatch")
        try:
            with contextlib.closing(Client(path, WITHIN)) as client:
                return read(client.ask("json brief" if brief else "json").encode())
        except DocumentError as error:
            raise NoAnswerError(str(error)) from None
        except OSError as error:
            raise NoAnswerError(_reason(error)) from None
