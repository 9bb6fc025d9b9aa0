"""The telnet console of the running demo: a scripted session in which each command answers."""

from __future__ import annotations

import re
import signal
import threading
from contextlib import ExitStack, closing
from pathlib import Path

from loopwatch._consoles import Client
from tests.loops.telnet import Telnet

from .programs import TIMEOUT, Program

SHOWN = {
    "loop": r"\bmain +(uvloop|asyncio)",
    "stalls": r"(?m)^ *(\d+) .* analysis_service\.answers\.parse +json\.loads",
    "stall {stalls}": r"(?s)^stall \d+: main was stalled .*\n  stack\n.*> +analysis_service\.answers\.parse ",
    "tasks": r"(?m)^ *(\d+) +(waits|runs) .*(analysis_service|Workflow)",
    "task {tasks}": r"(?s)created .*\.py:\d+",
    "tasks by=site": r"Jobs\.start",
    "tree of=creators": r"Workflow",
    "waits": r"Event\.wait",
    "leaks": r"Workflow\.\w+ +Jobs\.start",
    "pools": r"(?m)^ *(\d+) +httpcore ",
    "pool {pools}": r"^pool \d+: httpcore ",
    "findings": r"LW\d{3}",
    "top": r"main",
    "jobs": r"\d+ running, \d+ ok",
    "drain": r"drain",
    "help": r"(?s)stalls.*tasks.*pools",
}
"""By command: what is to be read in its answer at some time, as the demo goes on. The number that a group has
is that of a row, for the command that shows one by its number."""


def answered(telnet: Telnet, command: str, pattern: str) -> re.Match[str]:
    """Ask until that is to be read in the answer: the last stalls, say, are others a moment later.

    The end of the demo, which closes the session, bounds it.
    """
    pause = threading.Event()  # its timeout is the pause between two questions
    while True:
        answer = telnet.ask(f"lw {command}")
        assert "Traceback" not in answer
        found = re.search(pattern, answer)
        if found is not None:
            return found
        print(f"{command}:\n{answer}\n")
        pause.wait(0.2)


def test_each_command_shows_what_the_demo_does(tmp_path: Path) -> None:
    with ExitStack() as opened:
        place = {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
        words = ("loopwatch", "demo", "--seconds=900", "--faults=all")
        demo = Program(opened, tmp_path, *words, LOOPWATCH_CONSOLE="1", **place)
        demo.line(r"stalled .*", r"lost so far.* unretrieved_exception")
        (socket,) = (tmp_path / "loopwatch").glob("console-*")
        with closing(Client(str(socket), TIMEOUT)) as line:
            greeting = line.greeting
        telnet = opened.enter_context(closing(Telnet(re.findall(r"telnet://[\d.:]+", greeting)[0])))
        numbers: dict[str, str] = {}
        for command, pattern in SHOWN.items():
            found = answered(telnet, command.format(**numbers), pattern)
            if found.groups():
                numbers[command] = found[1]
        listed = set(re.findall(r"^(\w+)", telnet.ask("lw help"), re.MULTILINE))
        assert listed == {command.split()[0] for command in SHOWN}
        demo.end(signal.SIGINT)
