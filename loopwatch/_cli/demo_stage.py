"""What the demo's service needs around it: a directory, an environment, an LLM, clients, a log, an end."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import click

from .demo_view import Agent

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Calls:
    """loopwatch's functions that the demo uses, passed in by the command line's entry point.

    The service itself only calls ``install``. The demo calls the rest, around it: a request id can only be
    reported as lost if it is known which variable holds it.
    """

    install: Callable[[], Agent]
    watch_var: Callable[..., object]
    drain: Callable[..., Awaitable[object]]
    log_filter: Callable[[], logging.Filter]


class Stage:
    """Sets everything up on entry, importing the service, which installs the agent; cleans up on exit."""

    def __init__(self, calls: Calls, home: Path, factor: float, faults: str) -> None:
        self._calls = calls
        self._home = home
        self._factor = factor
        self._faults = faults
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="loopwatch-demo-"))
            self._log = Path(directory) / "service.log"
            llm = self._start(opened, "standin", "--port=0", f"--scale={self._factor}", "--until-eof")
            os.environ |= {
                "ANALYSIS_LLM_URL": _first_line(llm),
                "ANALYSIS_DATABASE": str(Path(directory) / "analysis.db"),
                "ANALYSIS_SCALE": str(self._factor),
                "ANALYSIS_FAULTS": self._faults,
            }
            # In the wheel the service is in site-packages, among the libraries.
            os.environ.setdefault("LOOPWATCH_APP_PACKAGES", "analysis_service")
            os.environ.setdefault("LOOPWATCH_SERVICE_NAME", "analysis-service")
            os.environ.setdefault("LOOPWATCH_PROMETHEUS_PORT", "0")
            import analysis_service.app  # noqa: F401 - installs the agent
            from analysis_service.documents import request_id

            self._calls.watch_var(request_id)
            _log_to(self._log, self._calls.log_filter())
            self._listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self, seconds: float, hear: Callable[[str], None]) -> None:
        """Run the service in this thread under its clients' load, until ``seconds`` are over or Ctrl-C.

        Each line that the clients print goes to ``hear``.
        """
        import uvicorn
        from analysis_service.app import create_app

        app = _drained_last(create_app(), self._calls.drain)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        clients = self._start(self._open, "load", self.url)
        threading.Thread(target=_hear, args=(clients, hear), daemon=True).start()
        end = threading.Timer(seconds, setattr, (server, "should_exit", True))
        end.start()
        try:
            server.run(sockets=[self._listener])
        except KeyboardInterrupt:
            pass  # uvicorn shut the service down cleanly before it passed the signal on
        finally:
            end.cancel()
        if not server.started:
            raise click.ClickException(f"the service did not start:\n{self._log.read_text()}")

    def _start(self, opened: ExitStack, part: str, *arguments: str) -> IO[str]:
        """Start one of the service's other programs until ``opened`` closes; return what it prints.

        It has a session of its own, so that Ctrl-C ends the service first. Should we be killed, the stand-in
        ends with its standard input, and the clients with the service.
        """
        path = os.pathsep.join(filter(None, (str(self._home), os.environ.get("PYTHONPATH"))))
        process = opened.enter_context(
            subprocess.Popen(  # noqa: S603 - our own interpreter, our own modules
                [sys.executable, "-m", f"analysis_service.{part}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        )
        opened.callback(process.kill)
        return cast("IO[str]", process.stdout)


def _first_line(output: IO[str]) -> str:
    line = output.readline().strip()
    if not line:
        raise click.ClickException("the LLM's stand-in did not start; what it printed stands above")
    return line


def _hear(output: IO[str], hear: Callable[[str], None]) -> None:
    for line in output:
        hear(line.strip())


def _log_to(file: Path, log_filter: logging.Filter) -> None:
    """Keep the log off the screen: it contains the agent's lines, and the view shows what they say."""
    handler = logging.FileHandler(file)
    handler.addFilter(log_filter)
    logging.basicConfig(
        level=logging.INFO, handlers=[handler], format="%(asctime)s %(levelname)s %(message)s"
    )


def _drained_last(app: Application, drain: Callable[..., Awaitable[object]]) -> Application:
    """Return ``app`` with a drain after its own shutdown, which waits for nothing and names what is left.

    ``drain_lifespan`` would wait before the shutdown, and the service's own fault would not show.
    """

    async def drained(scope: Message, receive: Receive, send: Send) -> None:
        async def last(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await drain(timeout=0)
            await send(message)

        await app(scope, receive, last if scope["type"] == "lifespan" else send)

    return drained
