"""Who asks and goes away before the answer ends no program, not even one that SIGPIPE is to end."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signal tells there")

HEAD = """
import asyncio, signal, socket, time
import loopwatch
from loopwatch._threads import OwnThread
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
"""


def test_of_the_console(script: Script) -> None:
    done = script(
        HEAD
        + """
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


def test_of_any_thread_of_ours_and_of_none_of_the_program(script: Script) -> None:
    done = script(
        HEAD
        + """
import threading

def send_to_nobody(is_to_end):
    ours, theirs = socket.socketpair()
    theirs.close()
    try:
        ours.send(b"x")
    except BrokenPipeError:
        print("told")

own = OwnThread("loopwatch-test", send_to_nobody, lambda: None)
own.start()
own.leave(60.0)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
send_to_nobody(None)
"""
    )
    assert done.stdout == "told\nset()\n"
    assert done.returncode == -13  # SIGPIPE, as the program has it
