"""The commands that ``console="repl"`` adds: cancelling a task, and running code in the program's loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import click
from aiomonitor import console  # type: ignore[import-untyped]
from prompt_toolkit.application.current import get_app_session

HOST = "127.0.0.1"


def changing_commands(
    monitor: Any, now: Callable[[], tuple[asyncio.AbstractEventLoop, int]]
) -> list[click.Command]:
    """Return the commands that change something. Their callbacks return an awaitable."""

    def cancel(taskid: str) -> Coroutine[Any, Any, str]:
        return _cancel(monitor, taskid)

    def run_code() -> Coroutine[Any, Any, str]:
        return _run_code(now()[0], monitor.console_locals)

    return [
        click.Command(
            "cancel",
            callback=cancel,
            params=[click.Argument(["taskid"])],
            help="Cancel a task, by the id that `ps` shows",
        ),
        click.Command("console", callback=run_code, help="Run Python in the program's loop; Ctrl-D ends it"),
    ]


async def _cancel(monitor: Any, taskid: str) -> str:
    return f"Cancelled {await monitor.cancel_monitored_task(taskid)}."


async def _run_code(loop: asyncio.AbstractEventLoop, names: dict[str, Any]) -> str:
    """Serve a REPL in ``loop``, and show it here until either side ends.

    Afterwards the loop is asked to stop serving, but not waited for: it may be waiting for us.
    """
    terminal = get_app_session()
    port = _free_port()
    opening = asyncio.run_coroutine_threadsafe(console.start(HOST, port, names, loop), loop)
    try:
        await asyncio.shield(asyncio.wrap_future(opening))
        await console.proxy(terminal.input, terminal.output, HOST, port)
    finally:
        opening.add_done_callback(lambda opened: _stop_serving(loop, opened))
    return "The console is closed."


def _stop_serving(loop: asyncio.AbstractEventLoop, opened: Future[asyncio.AbstractServer]) -> None:
    if opened.cancelled() or opened.exception() is not None:
        return
    with contextlib.suppress(RuntimeError):  # the loop is closed, and so are its servers
        loop.call_soon_threadsafe(opened.result().close)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
