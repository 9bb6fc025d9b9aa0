"""Where an exporter may come to instead of a Collector: to nobody, to who refuses, to who is silent.

Each gives the port it has on loopback, until its block's end.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Forbidding(BaseHTTPRequestHandler):
    """Answers 403 to everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read it, and take nothing of it."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def forbidding() -> Iterator[int]:
    """Take nothing, and say so; to gRPC, which is no HTTP/1.1, in words it does not know."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextlib.contextmanager
def absent() -> Iterator[int]:
    """Let nobody listen: every connection is refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Take connections, and never read nor answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as taken:

        def take() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    taken.enter_context(listener.accept()[0])

        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)  # ends accept(), which close() does not
        taker.join()
