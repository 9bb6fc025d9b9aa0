"""The timer of faulthandler is shared with the program, and with no child that it forks."""

import os
import subprocess
import sys

import pytest

FORK = """
import faulthandler, os, signal, sys, tempfile

from loopwatch._internals.fault_timer import FaultTimer

timer = FaultTimer(lambda: None)
timer.install()
with tempfile.TemporaryFile("wb") as file:
    timer.arm(60.0, file)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        timer.arm(60.0, file)
        timer.remove()
        sys.exit(os.waitstatus_to_exitcode(status))
    signal.alarm(20)  # a child that hangs ends the test
    timer.cancel()
    timer.arm(60.0, file)
    timer.remove()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs: fork")
def test_a_child_forked_while_the_timer_is_armed_can_use_it_and_exit() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
