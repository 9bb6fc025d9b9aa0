"""The telnet console of the running demo: a scripted session in which each command answers."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack, closing
from pathlib import Path

from loopwatch._consoles import connect
from tests.loops.telnet import Telnet

from .programs import Program

SHOWN = {
    "loop": r"\bmain +(uvloop|asyncio)",
    "stalls": r"json\.loads",
    "stall 1": r"(?s)analysis_service\.\w+.*stack",
    "tasks": r"analysis_service|Workflow",
    "tasks by=site": r"Jobs\.start",
    "tree of=creators": r"Workflow",
    "waits": r"Event\.wait",
    "leaks": r"Workflow\.\w+ +Jobs\.start",
    "pools": r"httpcore",
    "pool 1": r"(httpcore|thread_pool)",
    "findings": r"LW\d{3}",
    "top": r"main",
    "jobs": r"\d+ running, \d+ ok",
    "drain": r"drain",
    "help": r"(?s)stalls.*tasks.*pools",
}
"""By command: what is to be read in its answer."""


def test_each_command_shows_what_the_demo_does(tmp_path: Path) -> None:
    with ExitStack() as opened:
        place = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
        words = ("loopwatch", "demo", "--seconds=600", "--faults=all")
        demo = Program(opened, tmp_path, *words, LOOPWATCH_CONSOLE="1", **place)
        demo.line(r"stalled .*", r"lost so far.* unretrieved_exception")
        (socket,) = (tmp_path / "loopwatch").glob("console-*")
        with closing(connect(str(socket), 30.0)) as line:
            greeting = line.recv(4096).decode()
        telnet = opened.enter_context(closing(Telnet(re.findall(r"telnet://[\d.:]+", greeting)[0])))
        number = re.findall(r"(?m)^ *(\d+) ", telnet.ask("lw tasks"))[0]
        of_task = {f"task {number}": r"(?s)created .*\.py:\d+"}
        for command, pattern in (SHOWN | of_task).items():
            answer = telnet.ask(f"lw {command}")
            assert re.search(pattern, answer), (command, answer)
            assert "Traceback" not in answer
        listed = set(re.findall(r"^(\w+)", telnet.ask("lw help"), re.MULTILINE))
        assert listed == {command.split()[0] for command in SHOWN} | {"task"}
        demo.end(signal.SIGINT)
