"""The verdict on measured numbers."""

import dataclasses

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
    asleep=0.0,
    samples=0,
    callbacks=0,
    in_callback=True,
)
"""A stall of which nothing is known but that a callback ran."""


def test_a_holder_of_the_gil_that_had_to_wait_for_a_cpu_is_still_what_held_the_loop_up() -> None:
    """As measured while a worker thread parsed 20 MB of JSON on a machine with more to do than CPUs."""
    measured = dataclasses.replace(
        QUIET, duration=0.081, cpu=0.002, process_cpu=0.035, runqueue=0.026, late=0.074, gil_waits=16
    )
    assert decide(measured) == "gil"


def test_a_sleep_that_was_looked_at_is_blocking() -> None:
    assert decide(dataclasses.replace(QUIET, samples=5)) == "blocking"


def test_a_sleep_that_nobody_saw_is_not_called_one() -> None:
    """As measured while a worker thread compiled a schema and the loop's thread waited for its turns."""
    assert decide(dataclasses.replace(QUIET, duration=0.046, cpu=0.007, process_cpu=0.044)) == "unknown"
