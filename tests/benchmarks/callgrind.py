"""Counts the instructions a process executes between the marks it sets, with valgrind's callgrind.

callgrind executes a program some fifty to a hundred times slower than the machine does, while clocks do
not slow down: what an agent does by the clock, heartbeats and the ticks of its threads, would occur that
many times too often for the work done. So the clocks of the process are slowed down too (``slowclock.c``),
as are all its waits, and they stand still while a busy machine gives it no CPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .report import CannotRunError

MARK = "getloadavg"
"""The C function whose calls divide the count: only ``os.getloadavg`` calls it."""

SLOWDOWN = 75
"""Measured slowdown of bare CPython on an idle machine, in CPU time. If others share the CPU's caches it is
up to twice as much, and timers fire that much too often, which counts against the agents."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The instructions of one process."""

    parts: list[int]
    """Instructions of all its threads in each part between two marks; the first part ends at the first mark.
    What follows the last mark is left out."""
    stdout: str


class Callgrind:
    """callgrind with its clock library. Use as a context manager."""

    def __enter__(self) -> Self:
        for tool, package in (("valgrind", "valgrind"), ("cc", "gcc")):
            if shutil.which(tool) is None:
                raise CannotRunError(
                    f"no {tool} here, which counting instructions needs (Debian: apt install {package})"
                )
        self._directory = tempfile.TemporaryDirectory()
        self._clock = Path(self._directory.name) / "slowclock.so"
        source = Path(__file__).with_name("slowclock.c")
        options = ["-O2", "-shared", "-fPIC", f"-DSLOWDOWN={SLOWDOWN}"]
        subprocess.run(["cc", *options, str(source), "-o", str(self._clock), "-ldl"], check=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._directory.cleanup()

    def count(self, command: Sequence[str], env: Mapping[str, str]) -> Counts:
        """Run ``command`` and count its instructions. Raises CannotRunError if it fails."""
        out = Path(tempfile.mkdtemp(dir=self._directory.name)) / "counts"
        valgrind = ["valgrind", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        done = subprocess.run(
            [*valgrind, *command],
            env={**env, "LD_PRELOAD": str(self._clock)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotRunError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
        parts = sorted(out.parent.glob("counts.*"), key=lambda part: int(part.suffix[1:]))
        return Counts([_total(part) for part in parts], done.stdout)


def _total(part: Path) -> int:
    found = re.search(r"^totals: (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise CannotRunError(
            f"callgrind wrote no line 'totals:' to {part.name}; is this valgrind 3.19 or later?"
        )
    return int(found[1])
