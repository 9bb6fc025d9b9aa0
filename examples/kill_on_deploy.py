"""A deploy kills a worker with running jobs. A worker that drains finishes them, or names those it could not.

Run it: ``python examples/kill_on_deploy.py``. It ends with 0 if the killed job was named, within 5 seconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
import time

import loopwatch

IN_TIME = 5.0
"""Seconds from the signal until the job is named."""


async def send_mail(number: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    print(f"mail {number} is out", flush=True)


async def work() -> None:
    for number in range(1, 4):
        loopwatch.spawn(send_mail(number, 0.5), name=f"mail-{number}")
    loopwatch.spawn(send_mail(4, 600), name="mail-4")
    print("ready", flush=True)
    await asyncio.Event().wait()


def worker(drain_timeout: float | None) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    loopwatch.install(prometheus_port=None, drain_timeout=drain_timeout)
    asyncio.run(work())


def deploy(*arguments: str) -> tuple[str, float]:
    """Start a worker, tell it to end as an orchestrator does; return its output, and how long it took."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\n":
                break
        killed = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said = process.stdout.read()
    print(f"$ {' '.join(['kill_on_deploy.py', *arguments])}\n{said or '(nothing)'}")
    return said, time.monotonic() - killed


def main() -> int:
    deploy("--worker")
    said, after = deploy("--worker", "1.5")
    named = re.search(r"cancelled: task 'mail-4' \((.+)\), created by (.+) \S+ s ago", said)
    if named is None or after > IN_TIME or "mail 3 is out" not in said:
        return 1
    print(f"named after {after:.2f} s: 1 x cancelled: {named[1]}, by {named[2]}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(float(sys.argv[2]) if sys.argv[2:] else None)
    else:
        sys.exit(main())
