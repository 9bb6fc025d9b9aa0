"""The sockets of the line consoles of a user's processes: how they are named, made, found and reached.

A process has ``console-PID`` in the user's directory. Lines go in; text comes out, with a prompt at its end.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from . import _user_directory
from ._clock import SYSTEM
from ._user_directory import Directory
from ._words import clean

PROMPT = "loopwatch> "
"""Ends a complete answer: at the beginning of a line, with nothing after it. No answer contains it."""
BACKLOG = 64
AGAIN = 0.01
"""Seconds until the next try to connect to a process whose backlog is full."""
LOOKED_AT = 1024
"""Names in a directory that are looked at, at most."""

POSSIBLE = hasattr(socket, "AF_UNIX")
"""Whether there can be any consoles. Python has no UNIX sockets on Windows."""

_NAME = "console-"


class NoConsoleError(Exception):
    """There can be no console here. The text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """The console of a live process."""

    pid: int
    path: str


class Listener:
    """The console socket of this process. Raises NoConsoleError if it cannot have one."""

    def __init__(self) -> None:
        if not POSSIBLE:
            raise NoConsoleError("that takes UNIX sockets")
        try:
            self._directory = _user_directory.enter()
        except OSError as error:
            raise NoConsoleError(str(error)) from None
        self._name = f"{_NAME}{os.getpid()}"
        self.path = f"{self._directory.path}/{self._name}"
        """The path of the socket, for ``nc -U``."""
        try:
            _tidy(self._directory)
            if _answers(self._directory, self._name):
                raise OSError(f"{self.path} is that of another process: of a container, with the same pid")
            self.socket = self._directory.listen(self._name, BACKLOG)
        except OSError as error:
            self._directory.close()
            raise NoConsoleError(str(error)) from None

    def leave(self) -> None:
        """Remove the socket."""
        self._directory.unlink(self._name)
        self.close()

    def close(self) -> None:
        """Close everything but keep the name: in a forked child, where it is the parent's."""
        self.socket.close()
        self._directory.close()


def found() -> list[Found]:
    """Return the consoles of this user's processes, by pid; remove what dead ones left."""
    consoles: dict[int, Found] = {}
    for directory in _user_directory.existing() if POSSIBLE else ():
        try:
            _tidy(directory)
            for pid, name in _names(directory):
                if not name.startswith(".") and _answers(directory, name):  # not a zombie's
                    consoles.setdefault(pid, Found(pid, f"{directory.path}/{name}"))
        finally:
            directory.close()
    return sorted(consoles.values())


def connect(path: str, timeout: float) -> socket.socket:
    """Connect to a console; each use of the connection may take ``timeout`` seconds. Raises OSError."""
    if not POSSIBLE:
        raise OSError("this Python has no UNIX sockets")
    parent, name = os.path.split(os.path.abspath(path))
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    file = None
    try:
        if os.path.isdir("/proc/self/fd"):  # a way round the limit on the length of a socket's path
            file = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            path = f"/proc/self/fd/{file}/{name}"
        _connect(connection, path, SYSTEM.monotonic() + timeout)
    except OSError:
        connection.close()
        raise
    finally:
        if file is not None:
            os.close(file)
    return connection


def _connect(connection: socket.socket, path: str, until: float) -> None:
    never = threading.Event()  # its timeout is the pause between two tries
    while True:
        try:
            return connection.connect(path)
        except BlockingIOError:
            if SYSTEM.monotonic() >= until:
                raise TimeoutError("timed out") from None
        never.wait(AGAIN)


def _tidy(directory: Directory) -> None:
    """Remove what killed processes left behind."""
    for pid, name in _names(directory):
        if not _runs(pid) and not _answers(directory, name):
            directory.unlink(name)


def _names(directory: Directory) -> Iterator[tuple[int, str]]:
    for name in sorted(os.listdir(directory.file))[:LOOKED_AT]:
        before, _, pid = name.partition(_NAME)
        if before in ("", ".") and pid.isascii() and pid.isdigit():
            yield int(pid), name


def _runs(pid: int) -> bool:
    """Whether a process has that pid here: a container may share the directory, and has pids of its own."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's; or not a pid at all, so nothing of ours left this name
    return True


def _answers(directory: Directory, name: str) -> bool:
    """Whether a process listens there."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        connection.connect(directory.address(name))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        pass  # it listens, but has no room for another client
    finally:
        connection.close()
    return True


class Client:
    """Asks a console. Raises OSError if it cannot be reached, or does not answer in time."""

    def __init__(self, path: str, timeout: float) -> None:
        self._connection = connect(path, timeout)
        try:
            self.greeting = self._answer()
        except OSError:
            self._connection.close()
            raise

    def ask(self, line: str) -> str:
        """Return the answer to a line, without a newline at its end."""
        self._connection.sendall(" ".join(line.split()).encode("utf-8", "surrogateescape") + b"\n")
        return self._answer()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _answer(self) -> str:
        answer = b""
        end = PROMPT.encode()
        while answer != end and not answer.endswith(b"\n" + end):
            received = self._connection.recv(64 * 1024)
            if not received:
                raise ConnectionResetError(_last_line(answer) or "it has hung up")
            answer += received
        lines = answer.removesuffix(end).decode("utf-8", "replace").splitlines()
        return "\n".join(map(clean, lines))


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return clean(lines[-1]) if lines else ""
