"""Log lines leave through a thread of their own; what cannot leave is counted."""

import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from loopwatch._journal import QUEUE_LIMIT, Journal, _Mark
from loopwatch._records import Work

PATIENCE = 30.0
Use = Callable[[Callable[[logging.LogRecord], None]], None]


@pytest.fixture
def use() -> Iterator[Use]:
    """Have a function handle the lines of logger ``loopwatch``."""
    logger = logging.getLogger("loopwatch")
    handlers: list[logging.Handler] = []

    def use(handle: Callable[[logging.LogRecord], None]) -> None:
        handler = logging.Handler()
        handler.emit = handle  # type: ignore[method-assign]
        handlers.append(handler)
        logger.addHandler(handler)

    yield use
    for handler in handlers:
        logger.removeHandler(handler)


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.stop(PATIENCE)


def test_without_a_thread_a_line_is_logged_at_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.say(logging.WARNING, "%s of %d", "line", 2)
    assert caplog.messages == ["line of 2"]


def test_a_line_is_logged_by_the_thread_in_order(journal: Journal, use: Use) -> None:
    lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    use(lambda record: lines.put((record.getMessage(), threading.current_thread().name)))
    journal.start()
    for number in range(100):
        journal.say(logging.WARNING, "line %d", number)
    for number in range(100):
        assert lines.get(timeout=PATIENCE) == (f"line {number}", "loopwatch-journal")


def test_a_record_says_whose_work_it_tells_of(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    values = {
        "request_id": "r-1",
        "tenant": None,
        "msg": "a name of logging's",
        "message": "another",
        "getMessage": "no method",
    }
    journal.start()
    journal.say(logging.WARNING, "line", work=lambda: Work(values, "4bf9", "00f0", "order 7"))
    journal.say(logging.WARNING, "of nobody")
    journal.stop(PATIENCE)
    [record, of_nobody] = caplog.records
    found = {name: vars(record).get(name) for name in ("request_id", "trace_id", "span_id", "task_name")}
    assert found == {"request_id": "r-1", "trace_id": "4bf9", "span_id": "00f0", "task_name": "order 7"}
    assert not hasattr(record, "tenant")
    assert (record.msg, record.getMessage()) == ("line", "line")
    assert not hasattr(of_nobody, "request_id")


def test_a_record_factory_of_the_programs_that_sets_the_same_name_costs_no_line(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    factory = logging.getLogRecordFactory()

    def with_request_id(*args: object, **kwargs: object) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.request_id = "none in this thread"
        return record

    logging.setLogRecordFactory(with_request_id)
    try:
        journal.say(logging.WARNING, "line", work=lambda: Work({"request_id": "r-1"}, None, None, None))
    finally:
        logging.setLogRecordFactory(factory)
    assert [vars(record)["request_id"] for record in caplog.records] == ["r-1"]
    assert journal.failures() == {}


def test_stopping_writes_what_waits(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    journal.start()
    for number in range(50):
        journal.say(logging.WARNING, "line %d", number)
    journal.stop(PATIENCE)
    assert len(caplog.messages) == 50
    journal.say(logging.WARNING, "one more")
    assert caplog.messages[-1] == "one more"


def test_a_handler_that_blocks_holds_up_nobody_and_what_is_too_much_is_counted(
    journal: Journal, use: Use
) -> None:
    entered, release = threading.Event(), threading.Event()
    written: list[str] = []

    def handle(record: logging.LogRecord) -> None:
        entered.set()
        release.wait(PATIENCE)
        written.append(record.getMessage())

    use(handle)
    journal.start()
    journal.say(logging.WARNING, "first")
    assert entered.wait(PATIENCE)
    for number in range(QUEUE_LIMIT + 25):
        journal.say(logging.WARNING, "line %d", number)
    assert journal.dropped == 25
    release.set()
    journal.stop(PATIENCE)
    assert len(written) == QUEUE_LIMIT + 1


def test_stopping_does_not_wait_for_a_handler_that_blocks_for_ever(journal: Journal, use: Use) -> None:
    release = threading.Event()
    use(lambda record: bool(release.wait(PATIENCE)) or None)
    journal.start()
    thread = next(thread for thread in threading.enumerate() if thread.name == "loopwatch-journal")
    journal.say(logging.WARNING, "line")
    journal.stop(timeout=0.01)
    assert thread.is_alive()
    release.set()
    thread.join(PATIENCE)


@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit])
def test_a_filter_that_raises_is_counted_and_the_thread_goes_on(
    journal: Journal, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("loopwatch")

    def refuse(record: logging.LogRecord) -> bool:
        if "bad" in record.getMessage():
            raise error
        return True

    logger.addFilter(refuse)
    try:
        journal.start()
        for line in ("good", "bad", "bad", "good again"):
            journal.say(logging.WARNING, line)
        journal.stop(PATIENCE)
    finally:
        logger.removeFilter(refuse)
    assert caplog.messages == ["good", "good again"]
    assert journal.failures() == {"journal": 2}


class TestFailures:
    """Failures of our own parts: all counted, the first of each told with its traceback."""

    def test_the_first_is_told(self, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
        def broken() -> None:
            raise ValueError("out of order")

        for _ in range(3):
            with pytest.raises(ValueError) as raised:  # noqa: PT011 - its own
                broken()
            journal.failure("gc", raised.value)
        journal.failure("attach", ValueError())
        assert journal.failures() == {"gc": 3, "attach": 1}
        [first, second] = caplog.records
        assert first.levelno == logging.ERROR
        assert first.getMessage().startswith("loopwatch: gc failed; the program is not affected")
        assert "in broken" in first.getMessage()
        assert first.getMessage().endswith("ValueError: out of order")
        assert second.getMessage().startswith("loopwatch: attach failed")

    def test_what_is_returned_is_a_copy(self, journal: Journal) -> None:
        journal.failures()["gc"] = 7
        assert journal.failures() == {}


def test_starting_twice_is_starting_once(journal: Journal) -> None:
    journal.start()
    journal.start()
    assert len([thread for thread in threading.enumerate() if thread.name == "loopwatch-journal"]) == 1
    assert threading.enumerate()[-1].daemon


def test_a_forked_child_logs_at_once_again(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    journal.start()
    thread = next(thread for thread in threading.enumerate() if thread.name == "loopwatch-journal")
    lines = journal._lines
    journal.forget_thread()
    journal.say(logging.WARNING, "from the child")
    assert caplog.messages == ["from the child"]
    lines.put(_Mark.END)
    thread.join(PATIENCE)


def test_a_record_factory_of_the_programs_has_no_part_in_our_import() -> None:
    """It may want a name of each record, and give it attributes that are those of our lines, too."""
    program = """
import logging

def factory(name, *args, **kwargs):
    record = logging.LogRecord(name, *args, **kwargs)
    record.top, record.request_id = name.partition(".")[0], "-"
    return record

logging.setLogRecordFactory(factory)
logging.basicConfig(format="%(request_id)s %(message)s", level="INFO")

from loopwatch._journal import Journal
from loopwatch._records import Work

Journal().say(logging.INFO, "line", work=lambda: Work({"request_id": "r-1"}, None, None, None))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "r-1 line\n"
