"""The directory where a user's processes under loopwatch are found: one that only this user can have made.

``loopwatch`` in ``$XDG_RUNTIME_DIR``, else ``loopwatch-UID`` in the temporary directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Directory:
    """The directory, opened: all is done in this very one, though its path may be another's by then."""

    path: str
    file: int
    """Descriptor of the directory."""

    def address(self, name: str) -> str:
        """Return a path to a socket in it: on Linux a short one, however deep the directory lies."""
        return f"/proc/self/fd/{self.file}/{name}" if sys.platform == "linux" else f"{self.path}/{name}"

    def listen(self, name: str, backlog: int) -> socket.socket:
        """Listen on a socket in it, whose name appears once connections are no longer refused.

        Raises OSError.
        """
        coming = f".{name}"
        listener = socket.socket(socket.AF_UNIX)
        try:
            self.unlink(coming)
            listener.bind(self.address(coming))
            os.chmod(coming, 0o600, dir_fd=self.file)
            listener.listen(backlog)
            listener.setblocking(False)
            os.rename(coming, name, src_dir_fd=self.file, dst_dir_fd=self.file)
        except OSError:
            listener.close()
            raise
        return listener

    def unlink(self, name: str) -> None:
        """Remove a name, if it is there."""
        with contextlib.suppress(OSError):  # somebody else was first, or tidied up the temporary directory
            os.unlink(name, dir_fd=self.file)

    def close(self) -> None:
        """Close the directory."""
        os.close(self.file)


def enter() -> Directory:
    """Open, or create, the first place that can be trusted. Raises OSError, which says why none can."""
    reasons = []
    for path in _paths():
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            return _open_trusted(path)
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
    raise FileNotFoundError("; ".join(reasons))


def existing() -> Iterator[Directory]:
    """Open each existing place that can be trusted: a service's environment may differ from ours."""
    for path in _paths():
        with contextlib.suppress(OSError):
            yield _open_trusted(path)


def _paths() -> Iterator[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        yield os.path.join(runtime, "loopwatch")
    with contextlib.suppress(OSError):  # no temporary directory is writable
        yield os.path.join(tempfile.gettempdir(), f"loopwatch-{os.geteuid()}")


def _open_trusted(path: str) -> Directory:
    """Open a directory that nobody else can have made or can write to. Raises OSError, which says why not."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found = os.fstat(file)
    problem = None
    if found.st_uid != os.geteuid():
        problem = f"belongs to user {found.st_uid}, not to {os.geteuid()}; remove it"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        problem = f"its mode is {stat.S_IMODE(found.st_mode):04o}; give it 0700"
    if problem is not None:
        os.close(file)
        raise PermissionError(errno.EACCES, problem)
    return Directory(path, file)
