"""The dump of a long hold of the GIL: written during it, reported after it, and nobody's timer disturbed.

In separate programs: the timer is not used under pytest.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .provoked import but_stalls

Script = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ctypes.PyDLL(None)")

HEAD = """
import asyncio, ctypes, faulthandler, glob, os, sys, threading, time
import loopwatch
from loopwatch._watchdog import hold_dump
hold_dump.HOLD = 0.25  # seconds, not the real 5
from loopwatch._watchdog import thread
thread.CHORES_EVERY = 0.05

armed = threading.Event()

class Timer(hold_dump.FaultTimer):
    def arm(self, seconds, file):
        super().arm(seconds, file)
        armed.set()

hold_dump.FaultTimer = Timer

libc = ctypes.PyDLL(None)  # whose functions keep the GIL

def holds_the_gil(seconds):
    libc.usleep(int(seconds * 1e6))

def watchdog_sleeps():
    # Not in the middle of a look: on a busy machine, a hold that begins then may go by unseen.
    frames = sys._current_frames()
    threads = (thread for thread in threading.enumerate() if thread.name == "loopwatch-watchdog")
    return all(frames[thread.ident].f_code.co_name == "_run" for thread in threads)

async def main(seconds=0.5):
    await asyncio.sleep(0.1)
    while not watchdog_sleeps():
        await asyncio.sleep(0)
    holds_the_gil(seconds)
    await asyncio.sleep(0.1)

async def main_when_armed():
    await asyncio.to_thread(armed.wait, 30)
    await main(3.0)  # longer than the timer's thread may wait for a CPU

def dumps():
    return glob.glob(os.environ["TMPDIR"] + "/loopwatch-*.dump")
"""


def test_the_stack_of_a_hold_is_written_and_told(script: Script, tmp_path: Path) -> None:
    done = script(HEAD + "loopwatch.install(prometheus_port=None); asyncio.run(main_when_armed())")
    assert done.returncode == 0
    [dump] = tmp_path.glob("loopwatch-*.dump")
    [told] = {line for line in done.stderr.splitlines() if "could run Python" in line}
    assert told.endswith(f"the stacks of all threads at that time are in {dump}")
    text = dump.read_text()
    assert "Timeout (0:00:00.250000)!" in text
    assert "in holds_the_gil" in text
    assert "in main" in text
    stalls = [line for line in done.stderr.splitlines() if "was blocked for" in line]
    assert any(" by libc.usleep in __main__.holds_the_gil (" in stall for stall in stalls)


def test_the_stall_appears_at_once_after_it(script: Script) -> None:
    done = script(
        HEAD
        + """
async def ask():
    began = time.monotonic()
    await main(2.5)  # longer than the watchdog may wait for a CPU
    took = time.monotonic() - began
    while not (stalls := [stall for stall in agent.stalls() if stall.duration > 2.4]):
        await asyncio.sleep(0.01)  # the watchdog has had no CPU yet
    return stalls, took

agent = loopwatch.install(prometheus_port=None)
[stall], took = asyncio.run(ask())
print(stall.culprit.function, stall.call, 2.48 < stall.duration < took, stall.in_progress)
"""
    )
    assert done.stdout == "holds_the_gil libc.usleep True False\n"


def test_an_empty_file_is_taken_away(script: Script, tmp_path: Path) -> None:
    done = script(
        HEAD
        + """
hold_dump.HOLD = 3.0  # longer than a watchdog may wait for a CPU

async def well():
    await asyncio.to_thread(armed.wait, 30)
    print(len(dumps()), [os.stat(path).st_size for path in dumps()])

loopwatch.install(prometheus_port=None)
asyncio.run(well())
time.sleep(3.5)  # no loop runs: not held, though nothing is served
asyncio.run(well())
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("1 [0]\n1 [0]\n", [])
    assert not list(tmp_path.glob("*.dump"))


def test_a_file_of_the_users_is_appended_to_and_kept(script: Script, tmp_path: Path) -> None:
    chosen = tmp_path / "held.txt"
    chosen.write_text("before\n")
    body = "loopwatch.install(prometheus_port=None); asyncio.run(main_when_armed())"
    done = script(HEAD + body, LOOPWATCH_HOLD_DUMP=str(chosen))
    assert done.returncode == 0
    assert chosen.read_text().startswith("before\n")
    assert "in holds_the_gil" in chosen.read_text()
    assert not list(tmp_path.glob("*.dump"))
    script(
        HEAD + "loopwatch.install(prometheus_port=None); asyncio.run(asyncio.sleep(0.01))",
        LOOPWATCH_HOLD_DUMP=str(chosen),
    )
    assert "in holds_the_gil" in chosen.read_text()


def test_switched_off_nothing_is_touched(script: Script, tmp_path: Path) -> None:
    done = script(
        HEAD
        + """
original = faulthandler.dump_traceback_later
loopwatch.install(prometheus_port=None, hold_dump=False)
asyncio.run(main())
print(faulthandler.dump_traceback_later is original, dumps())
"""
    )
    assert done.stdout == "True []\n"


@pytest.mark.parametrize(
    "use",
    [
        "faulthandler.dump_traceback_later(0.4, file=theirs)",
        "faulthandler.cancel_dump_traceback_later()",
    ],
)
def test_once_somebody_else_uses_the_timer_it_is_theirs_for_good(script: Script, use: str) -> None:
    done = script(
        HEAD
        + f"""
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
theirs = open(os.environ["TMPDIR"] + "/theirs.txt", "w+b", buffering=0)

async def users():
    await asyncio.sleep(0.1)
    {use}
    {use}
    await main()
    while not theirs_is_written():
        await asyncio.sleep(0.01)  # its thread has had no CPU yet

def theirs_is_written():
    return "cancel" in {use!r} or os.fstat(theirs.fileno()).st_size

loopwatch.install(prometheus_port=None)
asyncio.run(users())
print([os.stat(path).st_size for path in dumps()])
theirs.seek(0)
print(theirs.read().count(b"Timeout"))
"""
    )
    sizes, timeouts = done.stdout.splitlines()
    assert sizes in ("[0]", "[]")
    assert timeouts == ("1" if "dump_traceback_later(0.4" in use else "0")
    assert len([line for line in done.stderr.splitlines() if "uses faulthandler's timer" in line]) == 1


def test_uninstall_disarms_and_puts_the_functions_back(script: Script) -> None:
    done = script(
        HEAD
        + """
hold_dump.HOLD = 2.0  # longer than a watchdog may wait for a CPU
originals = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0.1))
print(faulthandler.dump_traceback_later.__name__, faulthandler.dump_traceback_later is originals[0])
loopwatch.uninstall()
print((faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later) == originals)
holds_the_gil(2.5)
print(dumps())
"""
    )
    assert (done.stdout, but_stalls(done.stderr)) == ("dump_traceback_later False\nTrue\n[]\n", [])


def test_it_is_never_armed_under_a_debugger(script: Script) -> None:
    done = script(
        HEAD
        + """
sys.settrace(lambda *args: None)
loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0.1))
print(dumps())
"""
    )
    assert done.stdout == "[]\n"


def test_a_pipe_that_nobody_reads_holds_up_no_loop(script: Script) -> None:
    done = script(
        """
import asyncio, os, loopwatch
os.mkfifo("pipe")
loopwatch.install(prometheus_port=None, hold_dump="pipe")
asyncio.run(asyncio.sleep(0))
print("ran")
"""
    )
    assert done.stdout == "ran\n"
    [line] = but_stalls(done.stderr)
    assert line.startswith("loopwatch: long holds of the GIL will not be dumped: ")


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")
@pytest.mark.parametrize("then", ["timer.arm(60.0, file)", "timer.cancel()"])
def test_no_timer_is_left_for_a_fork_that_was_armed_just_now(script: Script, then: str) -> None:
    """Arming it again ends one thread and starts the next: both have to be gone. Cancelling it ends one."""
    done = script(
        """
import os, threading
from loopwatch import _threads
from loopwatch._clock import SYSTEM
from loopwatch._internals.fault_timer import FaultTimer

_threads.WITHIN = 30.0  # however slow the machine is
timer = FaultTimer(lambda: None)
timer.install()

def name():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm") as file:
        return file.read()

before, left = name(), set()
with open(os.devnull, "wb") as file:
    for _ in range(2000):
        timer.arm(60.0, file)
        THEN
        _threads.await_end([], timer.before_fork, SYSTEM)
        left.add(len(os.listdir("/proc/self/task")))
        timer.after_fork()
timer.remove()
print(left, name() == before)
""".replace("THEN", then)
    )
    assert (done.stdout, done.stderr) == ("{1} True\n", "")
