"""The verdict on measured numbers."""

from loopwatch._watchdog.cause import Measured, decide


def test_a_holder_of_the_gil_that_had_to_wait_for_a_cpu_is_still_what_held_the_loop_up() -> None:
    """As measured while a worker thread parsed 20 MB of JSON on a machine with more to do than CPUs."""
    measured = Measured(
        duration=0.081,
        gc=0.0,
        cpu=0.002,
        process_cpu=0.035,
        runqueue=0.026,
        throttled=0.0,
        late=0.074,
        gil_waits=16,
        asleep=0.0,
        samples=0,
        callbacks=0,
        in_callback=True,
    )
    assert decide(measured) == "gil"
