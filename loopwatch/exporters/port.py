"""The address of ``/metrics``: this process answers there, or waits until the sibling that does is gone."""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
from collections.abc import Callable
from functools import partial

from loopwatch import _settings
from loopwatch._journal import Journal
from loopwatch._threads import Imports

from .answer import Respond
from .endpoint import Endpoint, converse
from .handover import Handover
from .meeting import Meeting
from .pages import METRICS
from .standby import Standby

AGAIN = 0.25
"""Seconds until the address is tried again. The end of the process that has it is mostly noticed at once."""
TRIES = 12
"""Tries after which an address taken over must be free: a dying process may give up its claim earlier."""

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to these


class Port:
    """Has ``endpoint`` serve the address once this process has it. Used on the endpoint's thread."""

    def __init__(
        self,
        host: str,
        port: int,
        endpoint: Endpoint,
        respond: Respond,
        rest: Callable[[], float],
        imports: Imports,
        journal: Journal,
    ) -> None:
        self._host = host
        self._port = port
        self._endpoint = endpoint
        self._rest = rest
        self._journal = journal
        self._meeting: Meeting | None = None
        self._standby = Standby(imports)
        self.converse = partial(converse, respond=respond, beside=self._standby.beside)
        """Talks to a client, with a sibling standing by."""
        self.handover = Handover(endpoint, self._look_again)
        self._held = False
        self._waited = False
        """Whether a client had connected, and was not let in, when we last looked."""
        self._tries = 0
        self._told = False
        self._holder: tuple[int, int] | None = None
        """Of the sibling that has the claim: its pid, and a file that becomes readable once it is gone."""
        self._gone: int | None = None
        """The pid of the last sibling that was seen to go."""
        self.url: str | None = None
        """Where the metrics are, those of this process alone or of all siblings."""

    def take(self) -> None:
        """Take the address. Raises OSError if that fails. Before the endpoint's start, like ``share``."""
        listener = self.handover.listener or _listen(self._host, self._port)
        self.handover.listener = listener
        self._endpoint.talk(self._standby.attended(listener), self.converse, self._rest)
        self._held = True
        self.url = _url(listener)

    def share(self, meeting: Meeting) -> None:
        """Take the address, or wait until siblings release it. Raises OSError if it can never be had.

        An address that another program has is reported, but waited for, too.
        """
        self._meeting = self._standby.meeting = meeting
        self._tries = 0 if meeting.others() else TRIES - 1
        self._try(meeting)
        self._tries = 0
        self._tick()

    def complain(self, error: OSError, further: str = "") -> None:
        """Log that there is no endpoint."""
        self._told = True
        # Under ``loopwatch run`` the holder is a process of the same program, or was already reported.
        level = logging.DEBUG if _settings.RUN in os.environ and not further else logging.WARNING
        self._journal.say(
            level,
            "loopwatch: no /metrics endpoint, since %s:%d cannot be had: %s. Everything else works; give "
            "prometheus_port=0 for any free port, or None for no endpoint.%s",
            self._host,
            self._port,
            error,
            further,
        )

    def close(self) -> None:
        """Close what is shared with siblings, and release the address."""
        self._standby.close()
        self.handover.close()
        self._look_away()

    def _tick(self) -> None:
        if not self._held:
            self._endpoint.later(AGAIN, self._again)

    def _again(self) -> None:
        self._tick()  # first, so that a failure does not end the retries
        self._look_again()
        self._stand_in()

    def _look_again(self) -> None:
        if self._meeting is not None and not self._held:
            self._try(self._meeting)

    def _stand_in(self) -> None:
        """Let one client in, if one was also waiting at the last look: the sibling in charge hangs."""
        listener = self.handover.listener
        if self._held or listener is None:
            self._waited = False
            return
        waiting = _is_waited_at(listener)
        if waiting and self._waited and not self._rest():
            self._endpoint.admit(self._standby.attended(listener), self.converse)
        self._waited = waiting

    def _try(self, meeting: Meeting) -> None:
        if not meeting.claim():
            pid, self.url = meeting.claimant()
            self._look_at(pid)
            if self.url is not None:
                self.handover.ask(meeting, pid)
            return
        self._look_at(None)
        try:
            self.take()
        except OSError as error:
            meeting.publish(None)
            if error.errno != errno.EADDRINUSE:
                raise
            self._tries += 1
            if not self._told or self._tries % TRIES == 0:  # later on, too: a sibling may have hung
                self.handover.ask(meeting)  # its holder may have died before passing it to us
            if self._tries >= TRIES and not self._told:
                self.complain(error)
        else:
            meeting.publish(self.url)
            if self._told:
                self._journal.say(logging.INFO, "loopwatch: the metrics are at %s now", self.url)

    def _look_at(self, pid: int | None) -> None:
        """Arrange to notice at once when the claim's holder ends, if the system reports that."""
        if self._holder is not None:
            if self._holder[0] == pid:
                return
            self._endpoint.no_more(self._holder[1])
            self._look_away()
        if pid is None or pid == self._gone or not hasattr(os, "pidfd_open"):
            return
        try:
            file = os.pidfd_open(pid)
        except OSError:  # it is gone, or the kernel is too old: we try again soon
            return
        self._holder = pid, file
        self._endpoint.when(file, self._succeed)

    def _look_away(self) -> None:
        if self._holder is not None:
            os.close(self._holder[1])
            self._holder = None

    def _succeed(self) -> None:
        """Try to get the address of the process that is gone, as all its siblings do now."""
        if self._holder is not None and self._meeting is not None:
            self._gone = self._holder[0]
            self._look_at(None)
            self._try(self._meeting)


def _is_waited_at(listener: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(0))


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; resolves ``host`` only if it is a name, and takes ``::`` for IPv4 as well."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = _REACHED_AT.get(host, host)
    return f"http://[{host}]:{port}{METRICS}" if ":" in host else f"http://{host}:{port}{METRICS}"
