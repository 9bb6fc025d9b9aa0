"""Signals are the program's: none ends it because of us, none that it blocks comes through our threads."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signal masks there")

HEAD = """
import asyncio, os, signal, socket, sys, threading
import loopwatch
from loopwatch._threads import OwnThread
"""


def test_who_leaves_the_console_before_the_answer_ends_no_program(script: Script) -> None:
    """Not even one that has SIGPIPE at its default, as a filter has."""
    done = script(
        HEAD
        + """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
agent = loopwatch.install(prometheus_port=None)

def ask():
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(agent.console_path)
    return asking

async def main():
    for _ in range(20):
        with ask() as gone:
            gone.send(b"tasks\\nloop\\nstalls\\n")
    with ask() as asking:  # answered in turn
        asking.send(b"loop\\nexit\\n")
        asking.shutdown(socket.SHUT_WR)
        said = b""
        while more := await asyncio.to_thread(asking.recv, 1 << 16):
            said += more
    print(b"asyncio" in said)

asyncio.run(main())
"""
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_a_program_holds_back_waits_for_it(script: Script) -> None:
    """A thread that does not block a signal would be given it, and the handler be run at once."""
    done = script(
        HEAD
        + """
loopwatch.install(prometheus_port=0)
asyncio.run(asyncio.sleep(0))  # our threads run now, and stay
ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("loopwatch-")]
print(sorted(ours))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
for _ in range(100_000):
    pass
print(sorted(signal.sigpending()) == [signal.SIGINT, signal.SIGTERM])
print(signal.sigwait({signal.SIGTERM}) == signal.SIGTERM)
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert done.stdout.splitlines() == [
        "['loopwatch-console', 'loopwatch-endpoint', 'loopwatch-journal', 'loopwatch-watchdog']",
        "True",
        "True",
        "interrupted",
    ], done.stderr


def test_our_threads_block_all_but_faults_and_no_thread_of_the_program(script: Script) -> None:
    done = script(
        HEAD
        + """
names = "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"
faults = {getattr(signal, name) for name in names}
never = {signal.SIGKILL, signal.SIGSTOP}

def look(is_to_end):
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    print(blocked == signal.valid_signals() - faults - never)

own = OwnThread("loopwatch-test", look, lambda: None)
own.start()
own.leave(60.0)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    )
    assert done.stdout == "True\nset()\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the mask is read in /proc")
def test_the_one_that_waits_for_an_import_takes_none_either(script: Script, tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("import gate; gate.began.set(); gate.over.wait(60.0)")
    done = script(
        HEAD
        + f"""
import time, types
gate = sys.modules["gate"] = types.ModuleType("gate")
gate.began, gate.over = threading.Event(), threading.Event()
sys.path.insert(0, {str(tmp_path)!r})
importing = threading.Thread(target=__import__, args=["uvloop"])
importing.start()
gate.began.wait(60.0)
loopwatch.install(prometheus_port=None)
[waiting] = [thread for thread in threading.enumerate() if thread.name == "loopwatch-import"]

def blocked():
    with open(f"/proc/self/task/{{waiting.native_id}}/status") as status:
        [mask] = [int(line.split()[1], 16) for line in status if line.startswith("SigBlk")]
    return {{number for number in signal.valid_signals() if mask >> (number - 1) & 1}}

ends = time.monotonic() + 30.0
while not {{signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}} <= blocked() and time.monotonic() < ends:
    threading.Event().wait(0.01)  # it runs, and may not have got that far
print({{signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}} <= blocked())
gate.over.set()
importing.join()
"""
    )
    assert done.stdout == "True\n", done.stderr


def test_threads_of_a_program_that_gives_them_little_stack_have_that_and_ours_have_enough(
    script: Script,
) -> None:
    done = script(
        HEAD
        + """
import urllib.request

def least():  # 32 KiB, in which no scrape can be answered, with all that it imports; more from 3.14 on
    for size in range(32768, 1 << 20, 4096):
        try:
            threading.stack_size(size)
            return size
        except ValueError:
            pass

given = least()

async def main():
    agent = loopwatch.install(prometheus_port=0)
    await asyncio.sleep(0)
    size = threading.stack_size(0)  # for the thread that asks
    await asyncio.to_thread(urllib.request.urlopen, agent.prometheus_url)
    print(size == given)

asyncio.run(main())
"""
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
