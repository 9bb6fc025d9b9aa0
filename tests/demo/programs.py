"""Programs run as processes. What a test waits for is a line that one of them prints."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

TIMEOUT = 600.0


class Program:
    """A running ``python -m MODULE``, and what it prints. Ends with ``opened`` at the latest."""

    def __init__(
        self,
        opened: ExitStack,
        directory: Path,
        *words: str,
        timeout: float = TIMEOUT,
        **environ: str,
    ) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self._process = opened.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=directory,
                env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | environ,
                start_new_session=True,
            )
        )
        opened.callback(self._kill)
        self._timeout = timeout
        overdue = threading.Timer(timeout, self._kill)
        overdue.daemon = True
        overdue.start()
        opened.callback(overdue.cancel)

    def _kill(self) -> None:
        """Kill it, and the processes that it has work for it: those do not notice."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def line(self, *patterns: str) -> str:
        """Read on until each pattern was found in a line; return what was read."""
        assert self._process.stdout is not None
        missing = set(patterns)
        read = ""
        for line in self._process.stdout:
            read += line
            missing = {pattern for pattern in missing if not re.search(pattern, line)}
            if not missing:
                return read
        pytest.fail(f"the program ended without a line with {missing}; it printed:\n{read[-5000:]}")

    def tell(self, line: str) -> None:
        """Write it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self, number: signal.Signals | None = None) -> str:
        """Wait for its end, after sending it a signal if one is given; return what it prints until then."""
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        if number is not None:
            self._process.send_signal(number)
        # Not communicate(): it would miss what line() has buffered but not read. The timer ends a wait.
        rest = self._process.stdout.read()
        self._process.wait(self._timeout)
        return rest

    def stop(self) -> None:
        """Kill it, without a word, and wait for its end."""
        self._kill()
        self._process.wait(TIMEOUT)

    @property
    def status(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(self._timeout)
