"""aiomonitor as we need it: imported without leaving a trace in click, and a monitor that never starts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

STREAMS = "_default_text_stdout", "_default_text_stderr"
"""Names in ``click.utils``: where ``click.echo`` writes. aiomonitor replaces both functions for the whole
process, by ones that write to a session's terminal, else to ``sys.stdout``."""
MOVED = "split_arg_string"
"""What aiomonitor 0.7.1 takes from ``click.parser``, which warns of that since click 8.2: an error with
``-W error``. It is lent to that module while aiomonitor is imported..."""
POLICY = "DefaultEventLoopPolicy"
"""...as this is lent to ``asyncio``, which warns since Python 3.14 that it will be gone in 3.16. aioconsole
0.8 has a subclass of it. Delete each when aiomonitor no longer needs it."""

Now = Callable[[], tuple[asyncio.AbstractEventLoop, int]]
"""Returns the loop to look at, and the id of its thread. Raises LookupError if none runs."""


_brought_in = False


@contextlib.contextmanager
def _lent(module: ModuleType, name: str, what: object) -> Iterator[None]:
    """Have a module offer ``what`` under a name, unless it does so by itself or there is no such thing."""
    if what is None or name in vars(module):
        yield
        return
    vars(module)[name] = what
    try:
        yield
    finally:
        del vars(module)[name]


def used_by_program() -> bool:
    """Whether the program imported aiomonitor before we did."""
    return "aiomonitor" in sys.modules and not _brought_in


def bring_in() -> Callable[[], None]:
    """Import aiomonitor, and return a function that undoes the rest of what the import did to click.

    Until that is called, click writes where it always did, except in a session of aiomonitor's: the program
    may come to use aiomonitor too, and must not find it broken. If it already has, nothing is done.
    """
    global _brought_in
    if used_by_program():
        return lambda: None
    _brought_in = True
    import click.parser
    import click.shell_completion
    import click.utils

    before = {name: getattr(click.utils, name) for name in STREAMS}
    platform = sys.modules.get("asyncio.unix_events") or sys.modules["asyncio.windows_events"]
    with (
        _lent(click.parser, MOVED, click.shell_completion.split_arg_string),
        _lent(asyncio, POLICY, getattr(platform, f"_{POLICY}", None)),
    ):
        from aiomonitor.context import current_stdout  # type: ignore[import-untyped]
    ours = {name: _outside_of_sessions(current_stdout.get, original) for name, original in before.items()}
    for name, stream in ours.items():
        setattr(click.utils, name, stream)

    def take_back() -> None:
        for name, stream in ours.items():
            if getattr(click.utils, name) is stream:
                setattr(click.utils, name, before[name])

    return take_back


def _outside_of_sessions(of_session: Callable[[None], Any], original: Callable[[], Any]) -> Callable[[], Any]:
    def stream() -> Any:
        session = of_session(None)
        return original() if session is None else session

    return stream


def unstarted_monitor(now: Now, host: str, port: int) -> Any:
    """Return a monitor for aiomonitor's commands, which at each use looks at what ``now`` returns.

    It is neither started nor closed: starting would create a thread with a web interface, which changes state
    for whoever asks, and would set the loop's task factory. The telnet server is ours. In a running loop.
    """
    from aiomonitor import Monitor  # type: ignore[import-untyped]

    class UnstartedMonitor(Monitor):  # type: ignore[misc]  # Monitor has no types
        """Holds no loop: one that is over must not live on here."""

        def start(self) -> None:
            """Start nothing."""

        def close(self) -> None:
            """Close nothing."""

        @property
        def _monitored_loop(self) -> asyncio.AbstractEventLoop:
            return now()[0]

        @_monitored_loop.setter
        def _monitored_loop(self, loop: object) -> None:
            """Not kept."""

        @property
        def _event_loop_thread_id(self) -> int:
            return now()[1]

    return UnstartedMonitor(asyncio.get_running_loop(), host=host, termui_port=port, webui_port=0)
