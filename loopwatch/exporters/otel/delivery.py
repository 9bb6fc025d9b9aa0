"""Sending, as the program sees it: no request of ours in its traces, one line in its log per outage.

The SDK's exporters log each attempt, on loggers that the program's exporters use too. What ours log, which is
whatever this thread logs while it sends, is kept back, and the first message is reported as the reason. What
they log about their settings, as they are created, is reported separately.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from urllib.parse import unquote

from loopwatch._clock import Clock
from loopwatch._internals.otel_sdk import uninstrumented
from loopwatch._journal import Journal

_TALKERS = ("opentelemetry", "urllib3", "requests", "grpc")
"""Packages whose loggers report on sending."""
_LONGEST_REASON = 300
USUAL = 0.5
"""Seconds after which an export in progress may be interrupted: a working Collector answers sooner."""
LONG = 10.0
"""Seconds without an answer that count as an outage: what the exporters wait for one by default."""
_IN_ENDPOINTS = re.compile(r"[^\s/@]+@|\?[^\s'\"]+")
"""User and password in an endpoint, and its query."""
_SHORTEST_KEY = 4
"""Characters. Anything shorter is no key, and may be part of any word."""
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(?:METRICS_|TRACES_|LOGS_)?HEADERS")


def without_secrets(text: str) -> str:
    """Return an exporter's message without the parts of its settings that may be keys.

    It quotes headers that it cannot read or send: as they are, decoded, or as Python escapes them.
    """
    headers = [
        header.strip()
        for name in filter(_HEADERS.fullmatch, os.environ)
        for header in os.environ[name].split(",")
    ]
    values = [header.partition("=")[2].strip() for header in headers]
    said = {form for one in (*headers, *values) for form in (one, unquote(one), repr(unquote(one))[1:-1])}
    for form in sorted(said, key=len, reverse=True):
        if len(form) >= _SHORTEST_KEY:
            text = text.replace(form, "...")
    return _IN_ENDPOINTS.sub("", text)


class _Hush(logging.Filter):
    """Keeps back what one thread logs, and remembers the first warning."""

    def __init__(self) -> None:
        super().__init__()
        self.thread: int | None = None
        self.reason = ""
        self._loggers: set[logging.Logger] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep back records of that thread."""
        if record.thread != self.thread:
            return True
        if not self.reason and record.levelno >= logging.WARNING:
            self.reason = without_secrets(record.getMessage())[:_LONGEST_REASON]
        return False

    def join(self) -> None:
        """Join each existing logger that may report on sending."""
        for name, found in list(logging.Logger.manager.loggerDict.items()):
            if isinstance(found, logging.Logger) and name.partition(".")[0] in _TALKERS:
                found.addFilter(self)
                self._loggers.add(found)

    def leave(self) -> None:
        """Leave all loggers."""
        while self._loggers:
            self._loggers.pop().removeFilter(self)


class Delivery:
    """Sends batches of any signal, in one thread."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._hush = _Hush()
        self._failing: dict[str, float] = {}
        """Signals whose last batch did not arrive, with the monotonic time when that began."""
        self._remarks: set[str] = set()
        self.given_up = False
        """Whether there is no more time to send anything at all."""
        self.interrupted = False
        """Whether there is none in this round."""
        self._waited: dict[str, float] = {}
        """Signals interrupted since they last arrived, with the total seconds spent on their exports."""
        self._since: float | None = None
        """Monotonic time when the export in progress began; None if there is none."""

    def send(self, signal: str, export: Callable[[], bool]) -> bool:
        """Have ``export`` send a batch of ``signal``; return whether it says that arrived. Never raises."""
        if self.given_up or self.interrupted:
            return False
        self._hush.reason = ""
        self._since = self._clock.monotonic()
        self._hush.thread = threading.get_ident()
        try:
            with uninstrumented():
                arrived = export()
        except Exception as error:  # noqa: BLE001 - an exporter may raise anything
            arrived = False
            self._hush.reason = self._hush.reason or without_secrets(f"{type(error).__name__}: {error}")
        finally:
            self._hush.thread = None
            began, self._since = self._since, None
        if arrived:
            self._arrived(signal)
        elif not self.interrupted:
            self._failed(signal)
        else:
            self._was_interrupted(signal, self._clock.monotonic() - began)
        return arrived

    @property
    def hangs(self) -> bool:
        """Whether an export is in progress that is unlikely to arrive any moment. Any thread."""
        since = self._since
        if since is None:
            return False
        return bool(self._failing or self._hush.reason) or self._clock.monotonic() - since > USUAL

    def hush(self) -> None:
        """Silence the loggers that exist by now on what is sent."""
        self._hush.join()

    def because(self, error: str) -> None:
        """Take ``error`` as the reason, should the export fail: exporters may report no more than failure."""
        self._hush.reason = without_secrets(error)[:_LONGEST_REASON]

    def remark(self) -> None:
        """Log once what was warned of while an exporter was created: about settings, not an outage."""
        said, self._hush.reason = self._hush.reason, ""
        if said and said not in self._remarks:
            self._remarks.add(said)
            self._journal.say(logging.WARNING, "loopwatch: of the export by OTLP: %s", said)

    def end(self) -> None:
        """Let the loggers report again."""
        self._hush.leave()

    def _was_interrupted(self, signal: str, after: float) -> None:
        """Count as failed once the total wait exceeds what the exporters allow."""
        waited = self._waited[signal] = self._waited.get(signal, 0.0) + after
        if waited > LONG:
            self._hush.reason = f"no answer in {waited:.0f} s, in which the process forked"
            self._failed(signal)

    def _failed(self, signal: str) -> None:
        if not self._failing:
            self._journal.say(
                logging.WARNING,
                "loopwatch: the export by OTLP does not arrive (%s): %s. The program is not affected; a line "
                "says when it arrives again.",
                signal,
                self._hush.reason.rstrip(" .,") or "no reason was given",
            )
        self._failing.setdefault(signal, self._clock.monotonic())

    def _arrived(self, signal: str) -> None:
        self._waited.pop(signal, None)
        if signal in self._failing:
            seconds = self._clock.monotonic() - min(self._failing.values())
            self._failing.clear()
            self._journal.say(
                logging.WARNING, "loopwatch: the export by OTLP arrives again, after %.0f s.", seconds
            )
