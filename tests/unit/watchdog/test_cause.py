"""The verdict on measured numbers."""

import dataclasses
from typing import Any

import pytest

from loopwatch._watchdog.cause import Measured, decide

QUIET = Measured(
    duration=0.1,
    gc=0.0,
    cpu=0.0,
    process_cpu=0.0,
    runqueue=0.0,
    throttled=0.0,
    late=0.0,
    gil_waits=0,
    late_queued=0.0,
    asleep=0.0,
    samples=0,
    callbacks=0,
    in_callback=True,
    only_running=False,
)
"""A stall of which nothing is known but that a callback ran."""


def test_a_holder_of_the_gil_that_had_to_wait_for_a_cpu_is_still_what_held_the_loop_up() -> None:
    """As measured while a worker thread parsed 20 MB of JSON on a machine with more to do than CPUs."""
    measured = dataclasses.replace(
        QUIET, duration=0.081, cpu=0.002, process_cpu=0.035, runqueue=0.026, late=0.074, gil_waits=16
    )
    assert decide(measured) == "gil"


@pytest.mark.parametrize(("computed", "cause"), [(0.246, "gil"), (0.1, "gil"), (0.08, "unknown")])
def test_a_hold_of_the_gil_that_nobody_saw_in_the_loop_is_not_called_a_sleep_of_it(
    computed: float, cause: str
) -> None:
    """As measured on uvloop while a thread sorted a list, with six times more to do than there are CPUs."""
    measured = dataclasses.replace(
        QUIET,
        duration=0.911,
        cpu=0.0028,
        process_cpu=computed,
        runqueue=0.075,
        late=0.887,
        gil_waits=179,
        late_queued=0.08,
    )
    assert decide(measured) == cause
    assert decide(dataclasses.replace(measured, samples=1)) == "blocking"
    seen = dataclasses.replace(measured, samples=1, only_running=True)
    assert decide(seen) == ("blocking" if cause == "unknown" else "unknown")


def test_a_call_that_sleeps_and_holds_the_gil_is_blocking_though_its_thread_runs_when_it_is_seen() -> None:
    """As measured of ``usleep`` by ``ctypes.PyDLL``: the one look comes when it is over."""
    measured = dataclasses.replace(
        QUIET, duration=0.25, cpu=0.0005, process_cpu=0.002, late=0.22, gil_waits=44, samples=1
    )
    assert decide(dataclasses.replace(measured, only_running=True)) == "blocking"


def test_a_late_watchdog_alone_tells_nothing() -> None:
    """As in a process just started, on a busy machine: there is no reading from before the stall."""
    measured = dataclasses.replace(QUIET, duration=0.325, cpu=None, process_cpu=None, runqueue=None, late=0.3)
    assert decide(measured) == "unknown"


def test_a_sleep_that_was_looked_at_is_blocking() -> None:
    assert decide(dataclasses.replace(QUIET, samples=5)) == "blocking"


def test_what_was_seen_running_and_never_asleep_is_no_sleep() -> None:
    """As measured while a worker thread shuffled a list and the loop's thread waited for it to begin."""
    measured = dataclasses.replace(
        QUIET,
        duration=0.156,
        gc=0.02,
        cpu=0.0023,
        process_cpu=0.078,
        runqueue=0.03,
        late=0.048,
        gil_waits=141,
        late_queued=0.037,
        samples=1,
    )
    assert decide(dataclasses.replace(measured, only_running=True)) == "unknown"
    assert decide(measured) == "blocking"


def test_a_sleep_that_nobody_saw_is_not_called_one() -> None:
    """As measured while a worker thread compiled a schema and the loop's thread waited for its turns."""
    assert decide(dataclasses.replace(QUIET, duration=0.046, cpu=0.007, process_cpu=0.044)) == "unknown"


@pytest.mark.parametrize(
    ("cause", "numbers"),
    [
        ("gc", {"gc": 0.05, "cpu": 0.1, "process_cpu": 0.1, "late": 0.1, "samples": 3}),
        ("gc", {"gc": 0.1, "runqueue": 0.09}),
        ("cpu", {"gc": 0.049, "cpu": 0.1}),
        ("starved", {"runqueue": 0.05, "cpu": 0.03}),
        ("starved", {"throttled": 0.05, "cpu": 0.03}),
        ("starved", {"runqueue": None, "throttled": 0.05}),
        ("suspended", {"asleep": 0.05, "late": 0.1, "cpu": 0.05}),
        ("cpu", {"cpu": 0.05}),
        ("cpu", {"cpu": 0.05, "samples": 8, "callbacks": 1}),
        ("cpu", {"cpu": 0.1, "samples": 2, "callbacks": 1}),
        ("flood", {"cpu": 0.05, "samples": 3, "callbacks": 2}),
        ("flood", {"cpu": 0.1, "samples": 9, "callbacks": 6}),
        ("cpu", {"cpu": 0.1, "samples": 9, "callbacks": 5}),
        ("gil", {"late": 0.05, "gil_waits": 20, "process_cpu": 0.05}),
        ("gil", {"late": 0.09, "gil_waits": None, "process_cpu": 0.08}),
        ("blocking", {"late": 0.09, "gil_waits": 18, "process_cpu": 0.0, "samples": 1}),
        ("gil", {"late": 0.09, "gil_waits": 18, "process_cpu": 0.0, "in_callback": False}),
        ("suspended", {"late": 0.09, "gil_waits": 0, "process_cpu": 0.0}),
        ("suspended", {"late": 0.09, "gil_waits": 0, "process_cpu": 0.0, "in_callback": False}),
        ("suspended", {"late": 0.09, "gil_waits": None, "process_cpu": 0.03}),
        ("unknown", {"late": 0.09, "gil_waits": None, "process_cpu": 0.04}),
        ("unknown", {"late": 0.09, "gil_waits": 0, "process_cpu": 0.06}),
        ("blocking", {"late": 0.09, "gil_waits": 0, "late_queued": 0.05, "samples": 2}),
        ("unknown", {"late": 0.09, "gil_waits": 0, "late_queued": 0.05, "samples": 0}),
        ("suspended", {"late": 0.09, "gil_waits": 0, "late_queued": 0.04, "samples": 2}),
        ("suspended", {"late": 0.09, "gil_waits": 0, "late_queued": None, "samples": 2}),
        ("gil", {"late": 0.09, "gil_waits": 18, "late_queued": 0.08, "process_cpu": 0.09}),
        ("blocking", {"cpu": 0.03, "runqueue": 0.01, "gc": 0.03, "late": 0.03, "samples": 1}),
        ("blocking", {"cpu": 0.01, "runqueue": 0.03, "gc": 0.03, "late": 0.03, "samples": 1}),
        ("unknown", {"cpu": 0.03, "runqueue": 0.03, "samples": 5}),
        ("unknown", {"cpu": 0.04, "samples": 1}),
        ("unknown", {"runqueue": 0.04, "samples": 1}),
        ("unknown", {"gc": 0.04, "samples": 1}),
        ("unknown", {"late": 0.04, "samples": 1}),
        ("unknown", {"cpu": None, "samples": 5}),
        ("unknown", {"in_callback": False, "samples": 5}),
        ("blocking", {"runqueue": None, "throttled": None, "gil_waits": None, "samples": 5}),
    ],
    ids=str,
)
def test_each_cause_has_its_numbers(cause: str, numbers: dict[str, Any]) -> None:
    assert decide(dataclasses.replace(QUIET, **numbers)) == cause


SLEPT = dataclasses.replace(QUIET, duration=1.0, samples=20)


@pytest.mark.parametrize(
    ("measured", "cause"),
    [
        pytest.param({}, "blocking", id="slept in a call"),
        pytest.param({"in_callback": False}, "unknown", id="slept, but not in a callback"),
        pytest.param({"gc": 0.6, "cpu": 1.0}, "gc", id="collected, which computes"),
        pytest.param({"cpu": 0.9}, "cpu", id="computed"),
        pytest.param({"cpu": 0.9, "callbacks": 18}, "flood", id="computed in many callbacks"),
        pytest.param({"cpu": 0.9, "callbacks": 1, "samples": 2}, "cpu", id="too few samples for a flood"),
        pytest.param({"cpu": 0.2, "runqueue": 0.8}, "starved", id="ready, but without a CPU"),
        pytest.param({"cpu": 0.2, "throttled": 0.8}, "starved", id="throttled by the cgroup"),
        pytest.param({"cpu": 0.52, "runqueue": 0.48}, "unknown", id="half computed, half without a CPU"),
        pytest.param({"cpu": 0.48, "runqueue": 0.52}, "unknown", id="half without a CPU, half computed"),
        pytest.param({"cpu": 0.32, "runqueue": 0.3}, "unknown", id="a third computed, a third without a CPU"),
        pytest.param(
            {"cpu": 0.3, "runqueue": None, "throttled": 0.3}, "unknown", id="computed, and was throttled"
        ),
        pytest.param({"runqueue": None, "throttled": 0.4}, "unknown", id="throttled for some of it"),
        pytest.param({"cpu": 0.4}, "unknown", id="computed for some of it"),
        pytest.param({"cpu": None}, "unknown", id="no CPU clock"),
        pytest.param({"asleep": 1.0}, "suspended", id="the machine slept"),
        pytest.param({"late": 0.9, "in_callback": False}, "suspended", id="the process was stopped"),
        pytest.param(
            {"late": 0.9, "process_cpu": 0.9, "gil_waits": 180}, "gil", id="another thread had the GIL"
        ),
        pytest.param({"late": 0.9, "gil_waits": 180}, "blocking", id="slept with the GIL"),
        pytest.param(
            {"late": 0.9, "process_cpu": 0.32, "cpu": 0.32, "runqueue": 0.3, "gil_waits": 180},
            "unknown",
            id="computed with the GIL for a third, and waited for a CPU for another",
        ),
        pytest.param(
            {"late": 0.9, "process_cpu": 0.3, "runqueue": 0.25, "gil_waits": 180, "in_callback": False},
            "gil",
            id="waited for the GIL, after a wait, whose holder had to wait for a CPU",
        ),
        pytest.param(
            {"late": 0.9, "process_cpu": 0.3, "runqueue": 0.25, "gil_waits": 180},
            "blocking",
            id="slept with the GIL while another thread computed without it",
        ),
        pytest.param(
            {"late": 0.8, "process_cpu": 0.47, "cpu": 0.44, "runqueue": 0.45, "gil_waits": 160},
            "unknown",
            id="computed with the GIL, and waited for a CPU, by halves",
        ),
        pytest.param(
            {"late": 0.97, "process_cpu": 0.5, "cpu": 0.49, "runqueue": 0.47, "gil_waits": 185},
            "unknown",
            id="computed itself, with the GIL, for just less than half",
        ),
    ],
)
def test_cause(measured: dict[str, object], cause: str) -> None:
    """Each cause follows from the numbers that stand for it."""
    assert decide(dataclasses.replace(SLEPT, **measured)) == cause  # type: ignore[arg-type]
