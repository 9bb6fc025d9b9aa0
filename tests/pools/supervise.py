"""Run one server until there is something on stdin, or its end, however the tests end; leave nothing behind.

    python supervise.py '{"script": ..., "ready": ..., "account": ..., "stop": ..., "files": {name: text}}'

The script is run by ``sh`` in a new directory with the files in it, as that account where that is not null.
Its output is read here. Once that matches the pattern, the line ``ready PID`` goes to stdout; if the server
ends before, what it said goes there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

PATIENCE = 10.0
"""Seconds a server has to stop by itself. What it stored is thrown away, so it has little to do."""


def watch(server: subprocess.Popen[bytes], ready: re.Pattern[str]) -> None:
    """Return when there is something on stdin, or the server's output has ended."""
    output = server.stdout
    assert output is not None
    said, announced = "", False
    with DefaultSelector() as selector:
        selector.register(sys.stdin, EVENT_READ)
        selector.register(output, EVENT_READ)
        while sys.stdin not in [key.fileobj for key, _ in selector.select()]:
            chunk = os.read(output.fileno(), 65536).decode(errors="replace")
            if not chunk:
                break
            if not announced:
                said += chunk
                if announced := ready.search(said) is not None:
                    print("ready", server.pid, flush=True)
    if not announced:
        print(said, flush=True)


def run(spec: dict[str, Any], directory: Path) -> None:
    for name, text in spec["files"].items():
        (directory / name).write_text(text, encoding="utf-8")
    account: dict[str, Any] = {}
    if spec["account"]:
        account = {"user": spec["account"], "group": spec["account"], "extra_groups": []}
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, spec["account"], spec["account"])
    server = subprocess.Popen(
        ["sh", "-euc", spec["script"]],
        cwd=directory,
        env={**os.environ, "HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        **account,
    )
    try:
        watch(server, re.compile(spec["ready"]))
        server.send_signal(spec["stop"])
        server.wait(PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):  # the group of a server that ended, and left nobody
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    directory = tempfile.mkdtemp(prefix="loopwatch-server-")
    try:
        run(json.loads(sys.argv[1]), Path(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # a killed process may be writing there still


if __name__ == "__main__":
    main()
