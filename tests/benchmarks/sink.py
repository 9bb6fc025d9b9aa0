"""The OTLP endpoint that agents export to while they are measured: accepts everything, and keeps nothing."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
from collections.abc import Iterator


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with success."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serve(port: int = 0) -> Iterator[int]:
    """Run an endpoint in a process of its own, and yield its port."""
    command = [sys.executable, __file__, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def variables_for(port: int, interval: int = 10_000) -> dict[str, str]:
    """Return the variables that make an agent export there, its metrics every ``interval`` milliseconds."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": str(interval),
    }


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
