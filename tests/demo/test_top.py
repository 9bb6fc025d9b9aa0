"""``loopwatch top`` as a person has it: in tmux, at two sizes, with every key, on a program that dies."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.demo.programs import Program
from tests.machine import cpu_waited
from tests.pools.servers import free_port

if shutil.which("tmux") is None:
    pytest.skip("needs: tmux", allow_module_level=True)

SOON = 2.0
"""Seconds for which a stall may have gone on when it is first on the screen: what is promised is 1, on a
machine that has nothing else to do. Where it has, as many more as somebody waited for a CPU meanwhile."""
PATIENCE = 180.0
"""Seconds after which something is wrong."""
BLOCKED = 20.0
"""Seconds for which the program holds up its loop: longer than it takes to be shown on a busy machine."""


_numbers = itertools.count()


class Screen:
    """A terminal in tmux with a command in it."""

    def __init__(self, opened: ExitStack, directory: Path, size: tuple[int, int], *command: str) -> None:
        self._tmux = ["tmux", "-S", str(directory / f"tmux-{next(_numbers)}"), "-f", "/dev/null"]
        opened.callback(self._run, "kill-server", check=False)
        self._run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), *command)

    def _run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=check)
        return done.stdout

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        return self._run("capture-pane", "-p")

    def until(self, *said: str, gone: str = "\0") -> str:
        """Wait until all these are on the screen and ``gone`` is not; return it."""
        ends = time.monotonic() + PATIENCE
        while True:
            text = self.text
            if all(re.search(pattern, text) for pattern in said) and gone not in text:
                return text
            assert time.monotonic() < ends, f"no {said} in:\n{text}"
            threading.Event().wait(0.02)


class Scene:
    """A program that is watched, and the screen of who watches."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.opened = ExitStack()
        self.port = free_port()

    def program(self) -> Program:
        """Start the program, always on the same port."""
        program = Program(
            self.opened,
            self._directory,
            "tests.demo.watched",
            str(self.port),
            XDG_RUNTIME_DIR=str(self._directory),
        )
        program.line("^ready$")
        return program

    def screen(self, width: int = 80, height: int = 24, target: str = "") -> Screen:
        python = f"PYTHONPATH={':'.join(filter(None, sys.path))} XDG_RUNTIME_DIR={self._directory}"
        top = f"{python} {sys.executable} -m loopwatch top {target or f'127.0.0.1:{self.port}'}"
        return Screen(self.opened, self._directory, (width, height), f"{top}; echo ended with $?; cat")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    with scene.opened:
        yield scene


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=str)
def test_every_key(scene: Scene, size: tuple[int, int]) -> None:
    program = scene.program()
    program.tell("doze 0.3")
    screen = scene.screen(*size)
    overview = screen.until("live\n", r"__main__\.doze +time\.sleep", r"__main__\.main\S* +40")
    assert len(overview.rstrip("\n").splitlines()) == size[1]
    for key, said in (
        ("2", "began .*culprit"),
        ("3", "created by .*live .*oldest"),
        ("4", "age .*coroutine .*waits for"),
        ("5", "kind .*pool .*used"),
        ("6", "tasks .*wait for .*40|40 .*Event.wait"),
        ("7", "Nothing was lost so far"),
        ("8", "rule .*severity|Nothing is found"),
        ("9", "No drain so far"),
        ("1", "stalled by .*cause"),
        ("Tab", "began .*culprit"),
        ("BTab", "stalled by .*cause"),
        ("Right", "began .*culprit"),
        ("Left", "stalled by .*cause"),
        ("?", r"PgUp, PgDn"),
        ("Escape", "stalled by .*cause"),
        ("4", "job-0"),
    ):
        screen.press(key)
        screen.until(said)
    screen.press("Down", "Down", "j", "k", "Enter")
    screen.until(r"task job-\d+: work, pending", "waits for +Event.wait", r"> +__main__\.work")
    screen.press("BSpace")
    screen.until("age .*coroutine")
    screen.press("/", *"job-17", "Enter")
    screen.until("only lines with 'job-17'", "job-17", gone="job-1 ")
    screen.press("Escape")
    screen.until("job-1 ", gone="only lines")
    screen.press("s")
    screen.until("age v")
    screen.press("S")
    screen.until(r"age \^")
    screen.press("PPage", "NPage", "Home", "End", "g", "G", "r", "w", "f")
    screen.until("FROZEN")
    screen.press("Space")
    screen.until("live", gone="FROZEN")
    screen.press("q")
    screen.until("ended with 0", gone="q quit")


def test_every_size_it_is_given(scene: Scene) -> None:
    scene.program()
    screen = scene.screen()
    screen.until("live", "q quit")
    for width, height in ((200, 60), (60, 12), (80, 24), (120, 40)):
        screen.resize(width, height)
        ends = time.monotonic() + PATIENCE
        while not re.fullmatch(f"(.*\n){{{height - 1}}}.*q quit.*\n", text := screen.text):
            assert time.monotonic() < ends, text
            threading.Event().wait(0.02)


def test_a_target_that_dies_is_shown_as_dead_and_when_it_is_back_it_is_live(scene: Scene) -> None:
    program = scene.program()
    screen = scene.screen()
    first = screen.until("pid \\d+", "live")
    program.end()
    dead = screen.until("NO ANSWER for", "connection refused; asking again")
    assert re.search(r"pid \d+", dead)
    scene.program()
    back = screen.until("live", gone="NO ANSWER")
    assert re.findall(r"pid (\d+)", back) != re.findall(r"pid (\d+)", first)


@pytest.mark.parametrize("how", ["doze", "spin"])
@pytest.mark.parametrize("by", ["url", "pid"])
def test_while_the_loop_is_blocked_the_culprit_and_its_stack_are_shown(
    scene: Scene, how: str, by: str
) -> None:
    program = scene.program()
    screen = scene.screen()
    text = screen.until(r"pid \d+", "live")
    if by == "pid":
        pid = re.findall(r"pid (\d+)", text)[0]
        screen.press("q")
        screen.until("ended with 0")
        screen = scene.screen(target=pid)
        screen.until(f"pid {pid}", "its console socket", "live")
    waited = cpu_waited()
    program.tell(f"{how} {BLOCKED}")
    program.line(f"begins {how}")
    shown = screen.until("has been stalled for", rf"> +\S*\.{how} ")
    waited = cpu_waited() - waited
    [value, unit] = re.findall(r"has been stalled for ([\d.]+) (m?s)", shown)[0]
    assert float(value) / (1000 if unit == "ms" else 1) < SOON + waited
    assert re.search(r"\.main +\S*watched\.py:\d+", shown), "who called it"
