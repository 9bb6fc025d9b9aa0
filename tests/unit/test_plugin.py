"""The pytest plugin, in test runs of its own: which tests it fails, what it says, whom it leaves alone."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

MODULE = """
import asyncio, time
import pytest

def block(seconds):
    began = time.monotonic()
    time.sleep(seconds)
    print("blocked for", round((time.monotonic() - began) * 1000), "ms")

async def stalling():
    block(0.5)  # so much of it that a wait for a CPU at its end is not the larger part

async def leaking():
    asyncio.create_task(asyncio.sleep(600), name="left")
    await asyncio.sleep(0.01)

async def clean():
    await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(10)))

async def losing():
    async def fail():
        raise ValueError("unseen")
    asyncio.create_task(fail())
    await asyncio.sleep(0.01)

@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

"""

OPTIONS = "-p", "no:cacheprovider", "-p", "no:hypothesispytest"
Pytester = pytest.Pytester


def run(pytester: Pytester, tests: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(MODULE + tests)
    return pytester.runpytest_subprocess(*OPTIONS, *options)


MARKED = {
    "blocks": """
@pytest.mark.loopwatch
def test_stalling(loop):
    loop.run_until_complete(stalling())

@pytest.mark.loopwatch
def test_clean(loop):
    loop.run_until_complete(clean())
""",
    "leaves": """
@pytest.mark.loopwatch
def test_leaking(loop):
    loop.run_until_complete(leaking())
""",
    "loses": """
@pytest.mark.loopwatch
def test_losing(loop):
    loop.run_until_complete(losing())
""",
    "allowed": """
@pytest.mark.loopwatch(allow="*.block")
def test_stalling(loop):
    loop.run_until_complete(stalling())

@pytest.mark.loopwatch(allow=["*.leaking"])
def test_leaking(loop):
    loop.run_until_complete(leaking())

@pytest.mark.loopwatch(stall_threshold=None, leaks=False)
def test_neither(loop):
    loop.run_until_complete(stalling())
    loop.run_until_complete(leaking())

@pytest.mark.loopwatch(stall_threshold=30)
def test_patient(loop):
    loop.run_until_complete(stalling())
""",
    "fails": """
@pytest.mark.loopwatch
def test_failing(loop):
    loop.run_until_complete(stalling())
    assert 1 + 1 == 3
""",
    "wrong": """
@pytest.mark.loopwatch(0.2)
def test_number(): pass

@pytest.mark.loopwatch(treshold=0.2)
def test_name(): pass
""",
    "earlier": """
pytestmark = pytest.mark.loopwatch

@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner

@pytest.fixture(scope="module")
def background(runner):
    async def begin():
        return asyncio.create_task(asyncio.sleep(600))
    return runner.run(begin())

@pytest.mark.parametrize("time", [1, 2])
def test_clean(runner, background, time):
    runner.run(clean())
    assert not background.done()

def test_leaking(runner, background):
    async def leak():
        globals()["left"] = asyncio.create_task(asyncio.sleep(600))
    runner.run(leak())

def test_clean_again(runner, background):
    runner.run(clean())
""",
}
"""Modules of tests that ask for it by the marker alone."""


class Reported(NamedTuple):
    """What pytest says of a test."""

    outcome: str
    text: str


Reports = dict[str, dict[str, Reported]]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What became of the tests in each module of ``MARKED``, all of them in one run."""
    place = tmp_path_factory.mktemp("marked")
    for name, tests in MARKED.items():
        (place / f"test_{name}.py").write_text(MODULE + tests)
    words = [
        sys.executable,
        "-m",
        "pytest",
        *OPTIONS,
        "--junitxml=report.xml",
        "-o",
        "junit_logging=system-out",
    ]
    subprocess.run(words, cwd=place, check=False, capture_output=True, timeout=120)
    reports: Reports = {name: {} for name in MARKED}
    for case in ET.parse(place / "report.xml").iter("testcase"):
        outcome = next((part.tag for part in case if part.tag != "system-out"), "passed")
        report = Reported(outcome, "\n".join(part.text or "" for part in case))
        reports[case.attrib["classname"].removeprefix("test_")][case.attrib["name"]] = report
    return reports


def outcomes(reports: dict[str, Reported]) -> dict[str, str]:
    return {name: report.outcome for name, report in reports.items()}


def test_it_does_nothing_unless_asked_to(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
def test_stalling(loop):
    import loopwatch
    assert loopwatch.installed() is None
    loop.run_until_complete(stalling())
    loop.run_until_complete(leaking())
""",
    )
    result.assert_outcomes(passed=1)


def test_a_marked_test_fails_that_blocks_its_loop(marked: Reports) -> None:
    reports = marked["blocks"]
    assert outcomes(reports) == {"test_stalling": "failure", "test_clean": "passed"}
    said = reports["test_stalling"].text
    told = next(line for line in said.splitlines() if "blocked the event loop for" in line)
    (blocked,) = (float(line.split()[2]) for line in said.splitlines() if line.startswith("blocked for"))
    assert 490 <= float(told.partition("for ")[2].partition(" ms")[0]) < blocked + 700
    assert "[blocking]: time.sleep in test_blocks.block" in told
    assert ".stalling (" in said


def test_a_marked_test_fails_that_leaves_a_task(marked: Reports) -> None:
    assert outcomes(marked["leaves"]) == {"test_leaking": "failure"}
    said = marked["leaves"]["test_leaking"].text
    assert re.search(r"^left a task pending: sleep, created by \S*\.leaking \(", said, re.MULTILINE)


def test_a_marked_test_fails_whose_task_dies_unseen(marked: Reports) -> None:
    assert outcomes(marked["loses"]) == {"test_losing": "failure"}
    said = marked["loses"]["test_losing"].text
    assert re.search(
        r"^lost a task \[unretrieved_exception\]: losing.*fail \(ValueError\), ", said, re.MULTILINE
    )


def test_all_are_watched_where_that_is_asked_for(pytester: Pytester) -> None:
    tests = """
def test_stalling(loop):
    loop.run_until_complete(stalling())

def test_clean(loop):
    loop.run_until_complete(clean())

@pytest.mark.loopwatch(enabled=False)
def test_free(loop):
    loop.run_until_complete(stalling())
"""
    run(pytester, tests, "--loopwatch").assert_outcomes(passed=2, failed=1)
    pytester.makeini("[pytest]\nloopwatch = true")
    run(pytester, tests).assert_outcomes(passed=2, failed=1)


def test_what_is_allowed_is_named_by_patterns(marked: Reports) -> None:
    names = "test_stalling", "test_leaking", "test_neither", "test_patient"
    assert outcomes(marked["allowed"]) == dict.fromkeys(names, "passed")


def test_the_ini_file_sets_what_the_marker_does_not(pytester: Pytester) -> None:
    pytester.makeini("[pytest]\nloopwatch_stall_threshold = 30\nloopwatch_allow =\n    *.leaking")
    result = run(
        pytester,
        """
pytestmark = pytest.mark.loopwatch

def test_stalling(loop):
    loop.run_until_complete(stalling())
    loop.run_until_complete(leaking())

@pytest.mark.loopwatch(stall_threshold=0.05)
def test_closer(loop):
    loop.run_until_complete(stalling())
""",
    )
    result.assert_outcomes(passed=1, failed=1)


def test_a_test_that_fails_by_itself_says_why(marked: Reports) -> None:
    assert outcomes(marked["fails"]) == {"test_failing": "failure"}
    said = marked["fails"]["test_failing"].text
    assert "blocked the event loop" not in said
    assert re.search(r"^E +assert \(1 \+ 1\) == 3$", said, re.MULTILINE)


def test_the_programs_own_agent_stays(pytester: Pytester) -> None:
    result = run(
        pytester,
        """
import loopwatch
agent = loopwatch.install(prometheus_port=None)

@pytest.mark.loopwatch
def test_stalling(loop):
    loop.run_until_complete(stalling())

def test_it_is_there(loop):
    assert loopwatch.installed() is agent

@pytest.mark.loopwatch(stall_threshold=0.05)
def test_too_fine(loop):
    loop.run_until_complete(clean())
""",
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*which does not see stalls of 0.05 s*"])


@pytest.mark.parametrize(("name", "arguments"), [("test_number", "0.2"), ("test_name", "treshold")])
def test_a_wrong_marker_is_refused(marked: Reports, name: str, arguments: str) -> None:
    report = marked["wrong"][name]
    assert report.outcome == "failure"
    assert re.search(
        rf"takes stall_threshold, leaks, allow and enabled, by name; got .*{re.escape(arguments)}",
        report.text,
    )


def test_what_was_there_before_a_test_is_not_its_own(marked: Reports) -> None:
    passed = "test_clean[1]", "test_clean[2]", "test_clean_again"
    assert outcomes(marked["earlier"]) == {**dict.fromkeys(passed, "passed"), "test_leaking": "failure"}
    said = "\n".join(report.text for report in marked["earlier"].values())
    told = [line for line in said.splitlines() if line.startswith("left a task pending")]
    assert len(told) == 1
    assert ".test_leaking.<locals>.leak (" in told[0]


def test_a_wrong_option_is_refused(pytester: Pytester) -> None:
    pytester.makeini("[pytest]\nloopwatch_stall_threshold = soon")
    result = run(pytester, "def test_it(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*loopwatch_stall_threshold = soon: not a number*"])
