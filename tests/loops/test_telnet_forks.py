"""A fork while a telnet session is open: the console goes on in the parent, and the child has its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import pytest

from .child import Child
from .telnet import HEAD, Connect, listening, told, url_of

Start = Callable[[str], Child]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

FORKS = (
    HEAD
    + """
import socket, warnings
from loopwatch import _threads

warnings.simplefilter("always")  # to fork beside threads warns, since Python 3.12; as an error that is lost
_threads.WITHIN = 30.0  # however slow the machine is
install()

def tcp():
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                found += one.family == socket.AF_INET
        except OSError:
            pass  # it is none
    return found

def fork():
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        say("parent", status, agent.console_url == url)
        return
    loop.stop()  # what follows is the child's own, whose end is that of any program
    forked.append(True)

async def note():
    global url
    await up()
    url = agent.console_url

forked = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, fork)
loop.run_until_complete(note())
loop.run_forever()
"""
)


class TestFork:
    """The console's threads and sockets."""

    def test_the_session_goes_on_in_the_parent(self, start_child: Start, connect: Connect) -> None:
        child = start_child(FORKS.replace("    loop.stop()", "    os._exit(len(threading.enumerate()) - 1)"))
        url = url_of(child)
        telnet = connect(url)
        telnet.ask("ps")
        for _ in range(5):
            child.send(signal.SIGUSR1)
            child.until("parent ")
            assert child.said[-1] == "parent 0 True"
            assert telnet.ask("lw loop")
        assert "Warning" not in child.text
        assert connect(url).ask("ps")

    def test_the_child_has_none_of_its_parents_and_ends_in_silence(
        self,
        start_child: Start,
        connect: Connect,
    ) -> None:
        child = start_child(
            FORKS
            + """
import gc
say("child", agent.console_url, tcp())
gc.collect()
warnings.simplefilter("ignore", ResourceWarning)  # of the loop of the program, which the parent still runs
"""
        )
        telnet = connect(url_of(child))
        telnet.ask("ps")
        telnet.socket.sendall(b"lw sta")  # in the middle of a line
        child.send(signal.SIGUSR1)
        child.until("parent ")
        said = [
            line for line in told(child) if not line.startswith(("console ", "loopwatch: the telnet console"))
        ]
        assert said == ["child None 0", "parent 0 True"]
        assert "No such command" not in telnet.ask("lls")  # which the whole line is not, in one piece

    def test_a_child_that_runs_a_loop_has_its_own(
        self,
        start_child: Start,
        connect: Connect,
    ) -> None:
        child = start_child(
            FORKS.replace("        status = os.waitpid(pid, 0)[1]\n", "        status = 0\n")
            + """
async def own():
    await up()
    say("own", os.getpid())
    await forever()

if forked:
    run(own())
"""
        )
        parents = url_of(child)
        telnet = connect(parents)
        child.send(signal.SIGUSR1)
        child.until("own ")
        pid = int(child.said[-1].split()[-1])
        _, own = (line.split()[-1] for line in child.said if line.startswith("console telnet://"))
        assert own != parents
        assert f"process {pid}." in connect(own).greeting
        assert "1 tasks running" in connect(own).ask("ps")
        assert "tasks running" in telnet.ask("ps")
        assert listening(pid) == [int(own.rpartition(":")[2])]
