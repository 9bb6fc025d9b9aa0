"""Passing a socket from one sibling to another, over a connection at the meeting."""

from __future__ import annotations

import array
import socket

ALONE = b"\0"
"""Carries nothing: a descriptor cannot be sent without text."""


def send(passed: socket.socket, connection: socket.socket, text: bytes = ALONE) -> bool:
    """Send a socket. Returns whether it was sent: False if the other side is gone."""
    try:
        socket.send_fds(connection, [text], [passed.fileno()])
    except OSError:
        return False
    return True


def receive(connection: socket.socket, most: int) -> tuple[bytes, socket.socket | None]:
    """Receive text, and the socket that came with it, if any. Raises OSError as ``recv`` does.

    With ``socket.recv_fds``, programs started meanwhile would inherit the socket.
    """
    room = socket.CMSG_LEN(array.array("i").itemsize)
    said, came, _, _ = connection.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in came:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            passed = socket.socket(fileno=array.array("i", data)[0])
            passed.setblocking(False)
            return said, passed
    return said, None
