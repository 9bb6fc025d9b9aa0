"""Accepts a client's connection and sends it to a sibling, without waiting for the GIL in between. Linux.

Python releases the GIL for each system call and then waits to get it back, beside a busy loop 5 ms each time:
a process killed meanwhile takes the client along. Here the second call follows the first within a
microsecond. This needs only ``ctypes``, but importing that takes 2 ms: so the endpoint's thread imports this
module, once there is a sibling.
"""

from __future__ import annotations

import ctypes
import socket

from .passing import ALONE


class _Text(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("start", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Rights(ctypes.Structure):
    """``struct cmsghdr`` and the file descriptor sent along."""

    _fields_ = (
        ("length", ctypes.c_size_t),
        ("level", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("file", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct msghdr`` as the kernel defines it."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("texts", ctypes.POINTER(_Text)),
        ("text_count", ctypes.c_size_t),
        ("rights", ctypes.POINTER(_Rights)),
        ("rights_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


_LIBC = ctypes.PyDLL(None)  # the variant that keeps the GIL
_accept, _send = _LIBC.accept4, _LIBC.sendmsg
_OF_ACCEPTED = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_OF_SENDING = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
_LENGTH = _Rights.file.offset + _Rights.file.size


def take_and_send(listener: socket.socket, to: socket.socket) -> tuple[socket.socket, bool]:
    """Accept a connection from ``listener`` and send it to a sibling. Returns it, and whether it was sent.

    ``listener`` must not block: every thread would, waiting for the GIL. Raises OSError as ``accept`` does.
    """
    text = _Text(ALONE, len(ALONE))
    rights = _Rights(_LENGTH, socket.SOL_SOCKET, socket.SCM_RIGHTS, -1)
    message = _Message(None, 0, ctypes.pointer(text), 1, ctypes.pointer(rights), ctypes.sizeof(rights), 0)
    to_file, what = to.fileno(), ctypes.byref(message)
    file = rights.file = _accept(listener.fileno(), None, None, _OF_ACCEPTED)
    if file < 0:
        return listener.accept()[0], False  # raises the reason; usually the client has gone away
    sent = _send(to_file, what, _OF_SENDING) == 1
    return socket.socket(fileno=file), sent
