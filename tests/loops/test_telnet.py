"""The telnet console in a running program: what it shows, and which traps of aiomonitor it avoids."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from loopwatch._consoles import Client
from tests.machine import CpuWaits
from tests.pools.servers import free_port

from .child import PATIENCE, Child
from .telnet import HEAD, IDLE, NEGOTIATION, Connect, Telnet, listening, port_of, told, url_of

Start = Callable[[str], Child]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="children are told what to do by signals")

CLOSES = """
async def main():
    on_signal(told.set)
    await up()
    await told.wait()
    began = time.monotonic()
    loopwatch.uninstall()  # in the loop's thread
    say("uninstalled", round(time.monotonic() - began, 1))
    while (ours() or len(asyncio.all_tasks()) > 1) and time.monotonic() < began + 60:
        await asyncio.sleep(0.05)  # until what was asked of the loop is done
    say("end", ours())

def ours():
    return [each.name for each in threading.enumerate() if each.name.startswith("loopwatch")]

told = asyncio.Event()
run(main())
"""


@pytest.fixture
def start(start_child: Start) -> Start:
    return lambda source: start_child(HEAD + source)


class Idle(NamedTuple):
    """A program that waits, shared by all tests that only look at it."""

    child: Child
    url: str


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    child = Child(HEAD + IDLE, "stock", tmp_path_factory.mktemp("idle"), 600)
    yield Idle(child, url_of(child))
    child.close()


class TestOneProcess:
    """What a console offers, and what not."""

    def test_it_greets_helps_and_leaves(self, idle: Idle, connect: Connect) -> None:
        telnet = connect(idle.url)
        assert f"in program, process {idle.child.pid}." in telnet.greeting
        shown = telnet.ask("help")
        for name in ("exit", "help", "lw", "ps", "stacktrace", "where", "stalls", "tasks"):
            assert re.search(rf"^ *{name}\b", shown, re.MULTILINE), name
        telnet.socket.sendall(b"exit\r\n")
        telnet.rest()

    def test_nothing_can_be_changed_and_an_empty_line_repeats_nothing(
        self, idle: Idle, connect: Connect
    ) -> None:
        telnet = connect(idle.url)
        for line in ("cancel 1", "ca 1", "signal SIGUSR1", "console", "ps-terminated"):
            assert telnet.ask(line) == f"No such command '{line.split()[0]}'."
        assert "forever" in telnet.ask("lw tasks") or "main" in telnet.ask("lw tasks")
        assert telnet.ask("") == ""

    def test_what_aiomonitor_shows_of_the_loop(self, idle: Idle, connect: Connect) -> None:
        telnet = connect(idle.url)
        shown = telnet.ask("ps")
        assert shown.startswith("1 tasks running")
        (number,) = re.findall(r"\d{6,}", shown)
        assert "in forever" in telnet.ask(f"where {number}")
        assert "run(main())" in telnet.ask("stacktrace")
        assert "--filter" in telnet.ask("ps --help")
        assert telnet.ask("where nowhere") == "ValueError: invalid literal for int() with base 10: 'nowhere'"
        assert telnet.ask("where 1") == "✗ No task 1"
        assert telnet.ask('ps "') == "ValueError: No closing quotation"

    def test_no_name_drives_the_terminal(self, start: Start, connect: Connect) -> None:
        child = start(
            IDLE.replace(
                "    await up()\n",
                '    asyncio.current_task().set_name("\\x1b]0;owned\\x07\\rname")\n    await up()\n',
            ).replace("install()", 'install(service_name="\\x1b]0;shop")')
        )
        telnet = connect(url_of(child))
        number = re.findall(r"\d{6,}", telnet.ask("ps"))[0]
        telnet.socket.sendall(f"ps\r\nwhere {number}\r\nlw tasks\r\nexit\r\n".encode())
        assert "\x1b]" not in telnet.rest() + telnet.greeting

    def test_completion(self, idle: Idle, connect: Connect) -> None:
        telnet = connect(idle.url)
        telnet.socket.sendall(b"lw findi\t")
        telnet.until("ngs")
        telnet.socket.sendall(b"\x15stackt\t")
        telnet.until("race")

    def test_its_only_listening_socket_is_that_of_telnet(self, idle: Idle, connect: Connect) -> None:
        connect(idle.url).ask("ps")
        assert listening(idle.child.pid) == [port_of(idle.url)]

    def test_its_own_loop_and_tasks_are_not_the_programs(self, start: Start, connect: Connect) -> None:
        child = start("""
install(keep_tasks=True)

async def main():
    on_signal(lambda: say(
        "loops", [loop.name for loop in agent.loops()], [task.coroutine for task in agent.tasks()],
        agent.pools(), agent.lost(), agent.snapshot().points.get("unwatched"),
    ))
    await up()
    await forever()

run(main())
""")
        connect(url_of(child)).ask("lw tasks")
        child.send(signal.SIGUSR1)
        child.until("loops ")
        assert child.said[-1] == "loops ['main'] ['main'] () () None"

    def test_who_does_not_ask_for_it_imports_nothing(self, start: Start) -> None:
        child = start("""
agent = loopwatch.install(prometheus_port=None)
run(asyncio.sleep(1.5))  # longer than the console of a program with one takes to begin
say("imported", {"aiomonitor", "prompt_toolkit", "aiohttp"} & set(sys.modules), agent.console_url)
""")
        assert child.end() == 0
        assert told(child) == ["imported set() None"]

    def test_it_follows_the_program_to_its_next_loop(self, start: Start, connect: Connect) -> None:
        child = start("""
install()

async def first():
    await up()

async def second():
    on_signal(lambda: None)
    say("second")
    await forever()

run(first())
run(second())
""")
        telnet = connect(url_of(child))
        child.until("second")
        assert "second()" in telnet.ask("ps")


class TestRepl:
    """What ``console="repl"`` adds."""

    REPL = IDLE.replace("install()", 'install("repl", service_name="program")')

    def test_it_changes_things_and_an_empty_line_repeats_the_last_one(
        self, start: Start, connect: Connect
    ) -> None:
        child = start("""
install("repl")

async def victim():
    try:
        await forever()
    except asyncio.CancelledError:
        say("cancelled")

async def main():
    task = asyncio.create_task(victim())
    on_signal(lambda: say("signalled"))
    await up()
    await forever()

run(main())
""")
        telnet = connect(url_of(child))
        (number,) = re.findall(r"(\d{6,}) .*victim", telnet.ask("ps victim".replace("victim", "-f victim")))
        assert telnet.ask(f"cancel {number}") == "Cancelled victim()."
        child.until("cancelled")
        assert "Invalid or non-existent task ID" in telnet.ask("cancel 1")
        telnet.ask("signal SIGUSR1")
        child.until("signalled")
        telnet.ask("")
        child.until("signalled")

    def test_code_runs_in_the_programs_loop(self, start: Start, connect: Connect) -> None:
        child = start(self.REPL)
        telnet = connect(url_of(child))
        telnet.socket.sendall(b"console\r\n")
        telnet.until(">>> ")
        # One word: between two that are printed at once, the line editor may draw its line.
        telnet.socket.sendall(b"import threading; print('in ' + threading.current_thread().name)\r\n")
        telnet.until("in MainThread")
        telnet.socket.sendall(b"\x04")
        telnet.until("The console is closed.")
        telnet.socket.sendall(b"\r\n")
        telnet.until(">>> ")  # repeated

    def test_what_it_serves_the_console_on_is_closed_with_it(self, start: Start, connect: Connect) -> None:
        child = start(self.REPL)
        url = url_of(child)
        telnet = connect(url)
        telnet.socket.sendall(b"console\r\n")
        telnet.until(">>> ")
        assert len(listening(child.pid)) == 2
        telnet.close()
        again = connect(url)
        while len(listening(child.pid)) > 1:
            again.ask("help")

    def test_uninstall_in_the_loop_with_a_console_open(self, start: Start, connect: Connect) -> None:
        """aiomonitor's own end waits for the loop, which waits for it."""
        child = start('install("repl")\n' + CLOSES)
        telnet = connect(url_of(child))
        telnet.socket.sendall(b"console\r\n")
        telnet.until(">>> ")
        child.send(signal.SIGUSR1)
        child.until("end")
        assert child.said[-1] == "end []"
        (uninstalled,) = (line for line in child.said if line.startswith("uninstalled "))
        assert float(uninstalled.split()[-1]) < 5
        assert "the console ends" in telnet.rest()
        child.end()
        assert sorted(line.split()[0] for line in told(child)) == [
            "console",
            "end",
            "loopwatch:",
            "uninstalled",
        ]


def socket_of(child: Child) -> str:
    return next(line.split()[1] for line in child.said if line.startswith("socket "))


def said(child: Child) -> list[str]:
    """Return what the program itself has said: a thread writes the log, in its own time."""
    return [line for line in child.said if not line.startswith("loopwatch: ")]


class TestPorts:
    """Each process has a port of its own, and says which."""

    def test_a_port_that_is_held_is_passed_over(self, start: Start, connect: Connect) -> None:
        """Whoever holds it: aiomonitor waited for ever in the program's loop, or served nothing."""
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
            child = start(IDLE.replace("install()", f"install({port})"))
            url = url_of(child)
            assert port < port_of(url) < port + 32
            assert connect(url).ask("ps").startswith("1 tasks running")
            text = f"loopwatch: the telnet console of process {child.pid} is at 127.0.0.1:{port_of(url)}"
            if text not in child.said:  # the log's lines come from a thread of their own
                child.until(text)

    def test_none_to_be_had_is_told_once_and_the_program_runs(self, start: Start) -> None:
        child = start("""
import socket

told = []

def taken(self, address):
    raise OSError(98, "Address already in use")

class Told(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        told.extend(["told"] * ("no telnet console" in record.getMessage()))

logging.getLogger("loopwatch").addHandler(Told(sys.stdout))
logging.getLogger("loopwatch").propagate = False

socket.socket.bind = taken
install(20101)

async def main():
    while not told:
        await asyncio.sleep(0.05)
    say("delay", max(loop.delay_max for loop in agent.loops()) < 3, agent.console_url)

run(main())
""")
        assert child.end() == 0
        text = (
            f"loopwatch: no telnet console in process {child.pid}, since no port from 20101 to 20132 can be "
            "had: [Errno 98] Address already in use"
        )
        assert told(child) == [text, "delay True None"]

    def test_two_processes_have_two(self, start_child: Start, connect: Connect, tmp_path: Path) -> None:
        kind = "stock"
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        source = HEAD + IDLE.replace("install()", f"install({port})").replace(
            "await up()", 'say("socket", agent.console_path); await up()'
        )
        (tmp_path / "other").mkdir()
        children = [Child(source, kind, tmp_path), Child(source, kind, tmp_path / "other")]
        try:
            urls = [url_of(child) for child in children]
            assert len(set(urls)) == 2
            for child, url in zip(children, urls, strict=True):
                assert f"process {child.pid}." in connect(url).greeting
                with closing(Client(socket_of(child), PATIENCE)) as line:
                    assert f": program, {url}, pid {child.pid}." in line.greeting
        finally:
            for child in children:
                child.close()


class TestEnd:
    """After ``uninstall()``, nothing is left of the console, and it says nothing."""

    def test_whoever_has_said_nothing_yet_is_no_reason_for_a_traceback(
        self, start: Start, connect: Connect
    ) -> None:
        child = start("install()\n" + CLOSES)
        url = url_of(child)
        silent, halfway = connect(url, b""), connect(url, b"")
        halfway.socket.sendall(NEGOTIATION[:9])
        connect(url).ask("ps")
        child.send(signal.SIGUSR1)
        assert child.end() == 0
        assert sorted(line.split()[0] for line in told(child)) == [
            "console",
            "end",
            "loopwatch:",
            "uninstalled",
        ]
        assert child.said[-1] == "end []"
        for telnet in (silent, halfway):
            assert "the console ends" in telnet.rest()
        with pytest.raises(ConnectionRefusedError):
            Telnet(url)

    def test_the_programs_task_factory_stays(self, start: Start) -> None:
        """aiomonitor puts back the one it found, whoever has set another since."""
        child = start("""
install()

def theirs(loop, coro, **kwargs):
    return asyncio.Task(coro, loop=loop, **kwargs)

async def main():
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    await up()
    say(loop.get_task_factory() is before)
    loop.set_task_factory(theirs)
    loopwatch.uninstall()
    say(loop.get_task_factory() is theirs)

run(main())
""")
        url_of(child)
        assert child.end() == 0
        assert said(child)[1:] == ["True", "True"]

    def test_click_and_aiomonitor_are_as_they_were_found(self, start: Start) -> None:
        child = start("""
import click, click.parser, click.utils, warnings

def streams():
    return click.utils._default_text_stdout, click.utils._default_text_stderr

before = streams()
install()

async def main():
    await up()
    from aiomonitor import monitor_cli
    say(sorted(monitor_cli.commands))
    click.echo("to stdout")
    click.echo("to stderr", err=True)
    say("split_arg_string" in vars(click.parser))
    loopwatch.uninstall()
    say(streams() == before)

run(main())
""")
        url_of(child)
        assert child.end() == 0
        theirs = "'help', 'noop', 'ps', 'ps-terminated', 'signal', 'stacktrace', 'where', 'where-terminated'"
        assert said(child)[1:] == [
            f"['cancel', 'console', 'exit', {theirs}]",
            "to stdout",
            "to stderr",
            "False",
            "True",
        ]

    @pytest.mark.parametrize("theirs_first", [True, False])
    def test_the_program_may_use_aiomonitor_itself(
        self, theirs_first: bool, start: Start, connect: Connect
    ) -> None:
        """Whoever imported it first. The ports that it has by default are left to it."""
        child = start(f"""
theirs_first = {theirs_first}
if theirs_first:
    import aiomonitor
install(True)

async def main():
    await up()
    import aiomonitor
    ports = {[free_port(), free_port()]}
    with aiomonitor.start_monitor(
        asyncio.get_running_loop(), port=ports[0], webui_port=ports[1], console_enabled=False
    ):
        say("theirs", f"telnet://127.0.0.1:{{ports[0]}}")
        await forever()

run(main())
""")
        url = url_of(child)
        assert port_of(url) not in ((20101, 20102, 20103) if theirs_first else (20102, 20103))
        child.until("theirs ")
        theirs = connect(child.said[-1].split()[-1])
        shown = theirs.ask("help")
        assert "cancel (ca)" in shown
        assert "lw" not in shown
        assert "lw" in connect(url).ask("help")
        assert "Usage:" in theirs.ask("ps --help")
        assert "Usage:" in connect(url).ask("ps --help")


BLOCKED = """
install()

def sleep():
    time.sleep(30)

def compute():
    until = time.monotonic() + 30
    while time.monotonic() < until:
        sum(range(100))

async def main():
    on_signal({"sleep": sleep, "compute": compute}[os.environ["BLOCKED_BY"]])
    await up()
    await forever()

run(main())
"""


@pytest.mark.parametrize("kind", ["sleep", "compute"])
def test_a_loop_that_is_blocked_is_no_reason_to_wait(
    kind: str, start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch, cpu_waits: CpuWaits
) -> None:
    """On a quiet machine it takes 0.3 s to connect and to see it."""
    monkeypatch.setenv("BLOCKED_BY", kind)
    child = start(BLOCKED)
    url = url_of(child)
    waits = CpuWaits(child.pid)
    child.send(signal.SIGUSR1)
    began = time.monotonic()
    telnet = connect(url)
    row = rf"^(\d+) .*__main__\.{kind}\b"  # on a busy machine there are others
    while not (found := re.search(row, telnet.ask("lw stalls"), re.MULTILINE)):  # not in the first 100 ms
        assert time.monotonic() < began + PATIENCE
    seen = telnet.ask(f"lw stall {found[1]}")
    took = time.monotonic() - began
    assert f"in {kind}" in seen or f"{kind} " in seen
    assert "has been stalled" in seen  # it still is
    assert took < 5 + waits.seconds() + cpu_waits.seconds()


EVENTFUL = """
import gc

install(service_name="eventful")

def parse():
    time.sleep(0.3)

async def analyse():
    parse()

async def wait_for(lock):
    async with lock:
        pass

async def owner(lock):
    async with lock:
        await forever()

async def wait_too(task):
    await task

def drop():
    future = asyncio.get_running_loop().create_future()

    async def orphan():
        await future

    asyncio.create_task(orphan(), name="dropped")

def caught():
    return any(stall.culprit and stall.culprit.name == "__main__.parse" for stall in agent.stalls())

async def main():
    await up()
    lock = asyncio.Lock()
    tasks = [asyncio.create_task(owner(lock), name="the-owner")]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(wait_for(lock), name="the-waiter")]
    tasks += [asyncio.create_task(wait_too(tasks[1]), name="the-parent")]
    tasks += [asyncio.create_task(asyncio.to_thread(time.sleep, 60), name="in-thread")]
    loopwatch.spawn(forever(), name="the-job")
    drop()
    while not caught():  # at once, unless the machine has no time to look
        loopwatch.spawn(analyse(), name="job-1")
        await asyncio.sleep(0.5)
    while "destroyed_pending" not in {lost.reason for lost in agent.lost()}:  # not only held by nobody
        gc.collect()
        await asyncio.sleep(0.1)
    say("eventful")
    await forever()

run(main())
"""


def test_the_answer_of_every_command(start: Start, connect: Connect) -> None:
    child = start(EVENTFUL)
    telnet = connect(url_of(child))
    child.until("eventful")
    shown = {
        "loop": r"\bmain +asyncio|\bmain +uvloop",
        "stalls": r"__main__\.parse",
        "stall N": r"(?s)\w+: __main__.parse in time.sleep.*stack",
        "tasks": r"the-owner",
        "tasks by=site": r"__main__.main",
        "task the-waiter": r"(?s)the-waiter, waits.*Lock.acquire",
        "tree": r"(?s)wait_too.*\n +wait_for",
        "waits": r"Lock",
        "leaks": r"orphan",
        "leaks 1": r"(?s)orphan",
        "pools": r"thread",
        "pool 1": r"thread",
        "findings": r".",
        "top": r"main",
        "jobs": r"the-job",
        "drain": r"drain",
        "help": r"(?s)stalls.*tasks.*pools",
    }
    (number, *_) = re.findall(r"^(\d+) .*__main__\.parse", telnet.ask("lw stalls"), re.MULTILINE)
    for command, pattern in shown.items():
        answer = telnet.ask(f"lw {command.replace('N', number)}")
        assert re.search(pattern, answer), (command, answer)
        assert "Traceback" not in answer
        assert max(map(len, answer.splitlines())) <= 120, command
    listed = re.findall(r"^(\w+)", telnet.ask("lw help"), re.MULTILINE)
    assert set(listed) == {command.split()[0] for command in shown}
    assert "failed" not in child.text
