"""Log records say whose work they tell of."""

from __future__ import annotations

import asyncio
import io
import logging
import logging.config
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from opentelemetry import trace

import loopwatch
from loopwatch.integrations.logging import ContextFilter

REQUEST: ContextVar[Any] = ContextVar("request_id")
FORMAT = "%(request_id)s|%(trace_id)s|%(span_id)s|%(task_name)s|%(message)s"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Callable[[], list[str]]]]:
    """A logger, and what its handler has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(ContextFilter("request_id"))
    logger = logging.getLogger("shop.orders")
    logger.addHandler(handler)
    yield logger, lambda: stream.getvalue().splitlines()
    logger.removeHandler(handler)


Log = tuple[logging.Logger, Callable[[], list[str]]]


def test_a_record_outside_of_everything(log: Log) -> None:
    logger, written = log
    logger.warning("hello")
    assert written() == ["-|-|-|-|hello"]


def test_a_record_of_a_task_with_request_and_trace(log: Log) -> None:
    logger, written = log
    loopwatch.watch_var(REQUEST)
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))

    async def main() -> None:
        REQUEST.set("r-1")
        with trace.use_span(span):
            logger.warning("hello")

    async def named() -> None:
        await asyncio.create_task(main(), name="serve")

    asyncio.run(named())
    assert written() == [f"r-1|{0xABC:032x}|{0xDEF:016x}|serve|hello"]


@pytest.mark.parametrize("variables", [["request_id", "tenant"], "tenant"])
def test_it_is_made_by_logging_config(variables: Any) -> None:
    config: dict[str, Any] = {
        "version": 1,
        "incremental": False,
        "disable_existing_loggers": False,
        "filters": {"work": {"()": ContextFilter, "variables": variables, "absent": "none"}},
        "handlers": {"out": {"class": "logging.NullHandler", "filters": ["work"]}},
        "loggers": {"shop.configured": {"handlers": ["out"]}},
    }
    logging.config.dictConfig(config)
    [handler] = logging.getLogger("shop.configured").handlers
    record = logging.makeLogRecord({})
    assert handler.filter(record)
    assert vars(record)["tenant"] == "none"


def test_what_loopwatch_says_of_a_job_is_a_record_of_its_request(log: Log) -> None:
    """The line is written by a thread of loopwatch's, whose own context is empty."""
    handler = log[0].handlers[0]
    logging.getLogger("loopwatch").addHandler(handler)
    loopwatch.watch_var(REQUEST)

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        REQUEST.set("r-1")
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))):
            job = loopwatch.spawn(fail(), name="mail")
        await asyncio.wait([job])

    try:
        loopwatch.install(prometheus_port=None, console_socket=False)
        asyncio.run(main())
    finally:
        loopwatch.uninstall()
        logging.getLogger("loopwatch").removeHandler(handler)
    [line] = (line for line in log[1]() if "failed after" in line)
    assert line.startswith(f"r-1|{0xABC:032x}|{0xDEF:016x}|mail|loopwatch: job 'mail' ")
    assert line.endswith(f"; request_id=r-1; trace {0xABC:032x}")


def test_what_the_record_has_already_stays(log: Log) -> None:
    logger, written = log
    loopwatch.watch_var(REQUEST)
    loopwatch.watch_var(ContextVar("name"))
    logger.warning("hello", extra={"request_id": "mine"})
    assert written() == ["mine|-|-|-|hello"]


def test_a_variable_with_show_is_its_type_in_a_loop_and_its_text_outside(log: Log) -> None:
    logger, written = log
    loopwatch.watch_var(REQUEST, show=lambda value: value[0])

    async def main() -> None:
        REQUEST.set(["r-1"])
        logger.warning("inside")
        await asyncio.to_thread(logger.warning, "outside")

    asyncio.run(main())
    assert [line.partition("|")[0] for line in written()] == ["list", "r-1"]


def test_no_record_fails_of_it(log: Log) -> None:
    logger, written = log

    def fails(_: object) -> str:
        raise ValueError("no")

    loopwatch.watch_var(REQUEST, show=fails)
    token = REQUEST.set(object())
    logger.warning("hello")
    REQUEST.reset(token)
    assert written() == ["object|-|-|-|hello"]


def test_a_disabled_agent_changes_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, written = log
    monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
    loopwatch.watch_var(REQUEST)
    loopwatch.install()
    token = REQUEST.set("r-1")
    logger.warning("hello")
    REQUEST.reset(token)
    loopwatch.uninstall()
    assert written() == ["r-1|-|-|-|hello"]
