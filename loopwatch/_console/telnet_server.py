"""The telnet server: who may connect, and how many at a time. Always on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from itertools import islice

from prompt_toolkit.input import create_pipe_input

from loopwatch._allowance import Allowance
from loopwatch._clock import Clock
from loopwatch._journal import Journal

from .client import Client, Interact

COMPONENT = "telnet"
"""The component under which failures are counted."""
HOST = "127.0.0.1"
WAITING = 128
"""Connections that the kernel queues for us."""
SESSIONS = 8
"""Clients answered at a time; a further one is told that there are too many..."""
UNKNOWN = 16
"""...and clients that have not named their terminal yet: beyond these, the oldest is disconnected."""
SHARE = 0.1
"""Share of a core that all clients together may cost in the long run."""
AGAIN = 1.0
"""Seconds until connections are accepted again after the process ran out of file descriptors."""
LAST_WORD = 0.5
"""Seconds that sessions have to end."""

FULL = f"loopwatch: {SESSIONS} sessions are open already, which is all there may be.\r\n".encode()
OVERRUN = "loopwatch: too many connections that say nothing.\n"
ENDS = "\nloopwatch: the console ends.\n"


def listen(ports: list[int]) -> socket.socket:
    """Listen on the first free port of ``ports``. If none is free, raises the OSError of the last one."""
    problem = OSError("no port was given")
    for port in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform == "win32":  # here SO_REUSEADDR would share a port that is in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            listener.listen(WAITING)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            problem = error
        else:
            return listener
    raise problem


class TelnetServer:
    """Accepts connections from ``listener`` and runs ``interact`` for each. In a running loop's thread."""

    def __init__(
        self,
        listener: socket.socket,
        interact: Interact,
        clock: Clock,
        journal: Journal,
        costs: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._interact = interact
        self._clock = clock
        self._journal = journal
        self._costs = costs
        self._allowance = Allowance(SHARE, clock)
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: dict[Client, None] = {}
        """In order of arrival."""
        self._over = False
        self._open()

    async def close(self) -> None:
        """End all sessions. Waits for none that does not end: it may wait for a loop that waits for us."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for client in list(self._clients):
            client.dismiss(ENDS)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORD)
        for client in list(self._clients):
            client.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await self._loop.shutdown_asyncgens()
        self._over = True

    def abandon(self) -> None:
        """Close only the sockets: in a forked child, where neither they nor the loop are ours."""
        self._over = True
        self._listener.close()
        for client in self._clients:
            client.abandon()

    def _open(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _charge(self) -> float:
        """Count this thread's CPU time; return for how many seconds it must not compute any more."""
        self._costs()
        return self._allowance.rest(self._clock.thread_cpu())

    def _accept(self) -> None:
        if rest := self._charge():  # greeting a client costs as much as an answer
            self._loop.remove_reader(self._listener)
            self._loop.call_later(rest, self._open)
            return
        try:
            conn, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone away already
        except OSError as error:
            self._journal.failure(COMPONENT, error)
            self._loop.remove_reader(self._listener)
            self._loop.call_later(AGAIN, self._open)
            return
        conn.setblocking(False)
        unknown = [client for client in self._clients if not client.negotiated]
        if len(self._clients) - len(unknown) >= SESSIONS:
            with contextlib.suppress(OSError), conn:
                conn.send(FULL)
            return
        for client in islice(unknown, max(0, len(unknown) - UNKNOWN + 1)):
            client.dismiss(OVERRUN)
        task = self._loop.create_task(self._serve(conn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, conn: socket.socket) -> None:
        client = None
        try:
            with conn, create_pipe_input() as keys:
                client = Client(conn, keys, self._interact, self._clock, self._charge, self._turn)
                self._clients[client] = None
                await client.run_application()
        except (asyncio.CancelledError, EOFError, OSError):
            pass  # the client was dismissed, or has gone away
        except Exception as error:  # noqa: BLE001 - counted, and the others are served
            if not self._over:  # else the task is torn down wherever it stands
                self._journal.failure(COMPONENT, error)
        finally:
            if client is not None:
                self._clients.pop(client, None)
