"""The checks in ``tests/conftest.py`` are checked themselves: one that never fails would hold nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.alike

CONFTEST = Path(__file__).parents[1] / "conftest.py"

RunTests = Callable[[str], pytest.RunResult]


@pytest.fixture
def run_tests(pytester: pytest.Pytester) -> RunTests:
    """Return a function that runs a module of tests under our conftest, in a process of its own."""
    pytester.makeconftest(CONFTEST.read_text())

    def run(module: str) -> pytest.RunResult:
        pytester.makepyfile(module)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:hypothesispytest")

    return run


def test_an_agent_left_installed_fails_its_test_and_no_other(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import asyncio
        import threading

        import loopwatch

        def test_leaves_the_agent():
            loopwatch.install(prometheus_port=None)
            asyncio.run(asyncio.sleep(0))

        def test_comes_afterwards():
            assert threading.enumerate() == [threading.main_thread()]
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*teardown of test_leaves_the_agent*", "*left something of loopwatch behind*"]
    )


@pytest.mark.parametrize(
    "hook",
    [
        "asyncio.BaseEventLoop.create_task",
        "asyncio.BaseEventLoop.call_exception_handler",
        "warnings._warn_unawaited_coroutine",
    ],
)
def test_a_hook_left_fails_its_test(run_tests: RunTests, hook: str) -> None:
    result = run_tests(
        f"""
        import asyncio, warnings

        def test_leaves_a_hook():
            {hook} = lambda *args, original={hook}, **kwargs: original(*args, **kwargs)
        """
    )
    result.assert_outcomes(passed=1, errors=1)


def test_a_thread_that_has_not_ended_yet_is_waited_for(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import threading, time

        def test_is_over_before_its_thread():
            threading.Thread(target=time.sleep, args=(0.5,), name="loopwatch-late").start()
        """
    )
    result.assert_outcomes(passed=1)


def test_an_agent_taken_away_passes(run_tests: RunTests) -> None:
    result = run_tests(
        """
        import loopwatch

        def test_takes_it_away():
            loopwatch.install(prometheus_port=None)
            loopwatch.uninstall()
        """
    )
    result.assert_outcomes(passed=1)


NEEDY = """
    import pytest

    def test_lacks_a_thing():
        pytest.skip("needs: a thing")

    def test_is_not_for_this_version():
        pytest.skip("came with Python 99")
    """


def test_a_missing_thing_skips_in_a_checkout(run_tests: RunTests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_REQUIRE_ALL", raising=False)
    run_tests(NEEDY).assert_outcomes(skipped=2)


def test_a_missing_thing_fails_where_all_is_required(
    run_tests: RunTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REQUIRE_ALL", "1")
    run_tests(NEEDY).assert_outcomes(failed=1, skipped=1)


VERSION = "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("pythons", "order"),
    [
        (f"{VERSION} 2.7", ["one.files", "one.works", "two.works"]),
        (f"2.7 {VERSION}", ["two.works", "one.works"]),
        ("2.7", ["one.files", "one.works", "two.works"]),
    ],
)
def test_pythons_that_are_tested_at_once_do_not_all_do_the_same(
    run_tests: RunTests,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    pythons: str,
    order: list[str],
) -> None:
    monkeypatch.setenv("TEST_PYTHONS", pythons)
    pytester.makeini("[pytest]\nmarkers = alike")
    files = "import pytest\n\n@pytest.mark.alike\ndef test_files():\n    print('ran one.files')\n\n"
    works = "def test_works():\n    print('ran', __name__.removeprefix('test_') + '.works')\n"
    pytester.makepyfile(test_one=files + works, test_two=works)
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    ran = [line.rpartition("ran ")[2].rstrip(".") for line in result.stdout.lines if "ran " in line]
    assert ran == order
    result.assert_outcomes(passed=len(order), deselected=3 - len(order))
