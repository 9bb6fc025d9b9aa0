"""Where the workers of one program meet, so that a scrape of their one port shows all of them. Linux.

A directory of the user's holds a socket for each live process, named by its pid and start time, and a lock
for the port of each group. A group consists of processes that were given the same port, and that have the
same service name in one session, as a server and its workers do, or run under one ``loopwatch run``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loopwatch import _user_directory
from loopwatch._settings import RUN

if sys.platform == "linux":
    import fcntl

MOST = 256
"""Processes of one group that are shown."""
LOOKED_AT = 1024
"""Names in the directory that are examined: it is ours, with one per process and one per port."""
BACKLOG = 8
"""Requests, and clients to stand by for, that may wait for a process that hangs: when it resumes it answers
them, though nobody listens any more."""

_LOCK = ".lock"


class NoMeetingError(Exception):
    """There can be no meeting place here, or it cannot be trusted. The text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A process in the directory."""

    pid: int
    start: int
    """When it started, in ticks since boot: the pid may have been reused since."""
    group: str
    name: str
    """Of its socket."""

    @property
    def lives(self) -> bool:
        """Whether that process is running; True while that cannot be told."""
        try:
            return _start(self.pid) == self.start
        except OSError:
            return True


class Meeting:
    """A place in the directory for this process, beside the others of its group.

    Raises NoMeetingError if there can be none. Any thread, one at a time.
    """

    def __init__(self, host: str, port: int, service_name: str) -> None:
        start = _start(os.getpid()) if sys.platform == "linux" else None
        if start is None:
            raise NoMeetingError("that takes Linux, with /proc")
        self._opened = ExitStack()
        try:
            self._directory = _user_directory.enter()
        except OSError as error:
            raise NoMeetingError(str(error)) from None
        self._opened.callback(self._directory.close)
        self._lock: int | None = None
        self.shared = False
        """Whether the group has ever had another member."""
        try:
            self._group = _group(host, port, service_name)
            self._own = f"{self._group}-{os.getpid()}-{start}"
            self._tidy()
            self.listener = self._opened.enter_context(self._directory.listen(self._own, BACKLOG))
        except OSError as error:
            self._opened.close()
            raise NoMeetingError(str(error)) from None

    def others(self) -> list[Entry]:
        """Return the other live processes of the group, by pid; entries of dead ones are removed."""
        found = []
        for entry in self._entries():
            if entry.group != self._group or entry.name == self._own:
                continue
            if entry.lives:
                found.append(entry)
            else:
                self.remove(entry)
        self.shared = self.shared or bool(found)
        return sorted(found)[:MOST]

    def connect(self, entry: Entry) -> socket.socket:
        """Connect to the socket of ``entry``, without waiting. Raises OSError if that fails."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.setblocking(False)
            connection.connect(self._directory.address(entry.name))
        except OSError:
            connection.close()
            raise
        return connection

    def remove(self, entry: Entry) -> None:
        """Remove an entry whose process no longer answers."""
        self._directory.unlink(entry.name)

    def claim(self) -> bool:
        """Try to become the one that may have the port; if so, that holds until ``leave`` or death."""
        if self._lock is None:
            self._lock = self._locked(self._group + _LOCK)
            if self._lock is not None:
                self._opened.callback(os.close, self._lock)
        self.shared = self.shared or self._lock is None
        return self._lock is not None

    def publish(self, url: str | None) -> None:
        """Let the others know who holds the claim and, if served, where the metrics are."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()} {url or ''}\n".encode(), 0)

    def claimant(self) -> tuple[int | None, str | None]:
        """Return the pid of the claim's holder, and where its metrics are, as far as known."""
        with contextlib.suppress(OSError, ValueError):
            file = os.open(self._group + _LOCK, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._directory.file)
            with open(file, encoding="utf-8") as text:
                pid, url = text.read(1024).removesuffix("\n").split(" ")
            return int(pid), url or None
        return None, None

    def leave(self) -> None:
        """Remove what is ours in the directory, and close everything."""
        self._directory.unlink(self._own)
        if self._lock is not None:  # while it is locked; a process that opened it before looks again
            self._directory.unlink(self._group + _LOCK)
        self.close()

    def close(self) -> None:
        """Close everything: all there is to do in a forked child, where the place is the parent's."""
        self._lock = None
        self._opened.close()

    def _entries(self) -> Iterator[Entry]:
        for name in sorted(os.listdir(self._directory.file))[:LOOKED_AT]:
            with contextlib.suppress(ValueError):  # a lock, or not one of ours
                group, pid, start = name.rsplit("-", 2)
                yield Entry(int(pid), int(start), group, name)

    def _tidy(self) -> None:
        """Remove what killed processes left behind, of this group and of others."""
        living = {self._group}
        for entry in self._entries():
            if self._is_dead(entry):
                self.remove(entry)
            else:
                living.add(entry.group.removeprefix("."))
        for name in os.listdir(self._directory.file)[:LOOKED_AT]:
            if name.endswith(_LOCK) and name.removesuffix(_LOCK) not in living:
                lock = self._locked(name)
                if lock is not None:
                    self._directory.unlink(name)
                    os.close(lock)

    def _is_dead(self, entry: Entry) -> bool:
        """Tell by the pid, if it is of our pid namespace; otherwise by the socket, which says less."""
        if entry.group.removeprefix(".").partition("-")[0] == _namespace("pid"):
            return not entry.lives
        try:
            self.connect(entry).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            pass  # it has too many waiting to be asked
        return False

    def _locked(self, name: str) -> int | None:
        """Lock a file, created if need be, and return it; None if another process has locked it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        file = os.open(name, flags, 0o600, dir_fd=self._directory.file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.stat(name, dir_fd=self._directory.file, follow_symlinks=False)
            if os.path.samestat(found, os.fstat(file)):
                return file
        except OSError as error:  # locked; or removed by a process that tidied up just now
            if error.errno not in (errno.EWOULDBLOCK, errno.ENOENT):
                os.close(file)
                raise
        os.close(file)
        return None


def _group(host: str, port: int, service_name: str) -> str:
    """Return what the processes that are to meet have in common.

    A port belongs to a network namespace, and a pid to one of its own: containers may share a directory. A
    session may be a shell's, from which two programs were started.
    """
    program = os.environ.get(RUN) or f"session {os.getsid(0)} {service_name}"
    common = repr((_namespace("net"), program, host, port))
    return f"{_namespace('pid')}-{hashlib.blake2s(common.encode(), digest_size=8).hexdigest()}"


def _namespace(kind: str) -> str:
    return str(os.stat(f"/proc/self/ns/{kind}").st_ino)


def _start(pid: int) -> int | None:
    """Return when the process started, in ticks since boot; None if it is not running.

    Raises OSError if no file descriptor is left to look with: the process may well be running.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(") ")[2].split()
        return int(fields[19]) if fields[0] not in "ZX" else None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None
    except (IndexError, ValueError):
        return None
