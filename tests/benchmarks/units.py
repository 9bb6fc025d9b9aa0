"""The units of work whose instructions are counted, and the child process that repeats them.

Run as ``python -m tests.benchmarks.units SUBJECT SCALE WORK UNIT...``: each unit is warmed up, then
repeated N and 3N times, each repetition between two marks. The seconds of each repetition go to stdout as
JSON, in order.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

from .subjects import SUBJECTS

mark = os.getloadavg
"""Ends one part of the count: callgrind writes its counters out before it enters this function of the C
library (``callgrind.MARK``), which nothing else calls."""

PAYLOAD = b"x" * 64
STALL = 0.12
SETTLE = 0.05
ROUND = 0.1
ROUNDS = 20
IDLE = 0.02
"""Limit of the share of a core used by a process that does nothing except being watched."""


async def iteration(n: int) -> None:
    """Yield ``n`` times: the loop iterates once each time, for a task that does nothing else."""
    for _ in range(n):
        await asyncio.sleep(0)


async def callback(n: int) -> None:
    """Iterate ``n`` times for a plain callback that only reschedules itself: the least possible work."""
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    left = n

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(again)
        else:
            finished.set_result(None)

    loop.call_soon(again)
    await finished


async def nothing() -> None:
    """Do nothing: the whole work of an empty task."""


async def task(n: int) -> None:
    """Create and await ``n`` empty tasks, one after the other."""
    for _ in range(n):
        await asyncio.create_task(nothing())


async def serve_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what is received until the other side disconnects."""
    while data := await reader.read(len(PAYLOAD)):
        writer.write(data)
        await writer.drain()
    writer.close()


async def ping(n: int, host: str, port: int) -> None:
    """Make ``n`` round trips over a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    for _ in range(n):
        writer.write(PAYLOAD)
        await writer.drain()
        await reader.readexactly(len(PAYLOAD))
    writer.close()


async def lone_echo(n: int, connections: int = 1) -> None:
    """Make ``n`` round trips over loopback with asyncio's streams; both ends live on this loop.

    With one connection the loop iterates four times per round trip, which no busy server does.
    """
    server = await asyncio.start_server(serve_echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*(ping(n // connections, *address) for _ in range(connections)))
    server.close()
    await server.wait_closed()


async def echo(n: int) -> None:
    """Make ``n`` round trips, over three connections at once."""
    await lone_echo(n, connections=3)


def work(n: int) -> None:
    """Compute; ``WORK`` turns take about 100 us natively."""
    for i in range(n):
        i * i


async def child() -> None:
    """Wait one turn, as a call to another service would."""
    await asyncio.sleep(0)


async def request(n: int) -> None:
    """Serve ``n`` requests, each with two child tasks, a timeout and 100 us of work."""
    turns = int(sys.argv[3])
    for _ in range(n):
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())
            work(turns)


async def stalls(n: int) -> None:
    """Stall the loop ``n`` times, then let the agent finish its report."""
    for _ in range(n):
        time.sleep(STALL)
        await asyncio.sleep(SETTLE)


UNITS: dict[str, tuple[Callable[[int], Awaitable[None]], int]] = {
    "iteration": (iteration, 3000),
    "callback": (callback, 3000),
    "task": (task, 1000),
    "echo": (echo, 210),
    "lone echo": (lone_echo, 210),
    "request": (request, 90),
    "stalls": (stalls, 1),
}
"""Each unit of work, and its N."""

TIMES = (1, 3)


async def begun() -> None:
    """Wait until the agent has done its one-time work, which must not count for a unit.

    loopwatch takes a first look at everything, which costs as much as the records of a hundred tasks. On a
    busy machine its threads get to that late.
    """
    for _ in range(ROUNDS):
        before = time.process_time()
        await asyncio.sleep(ROUND)
        if time.process_time() - before < IDLE * ROUND:
            return


async def measure(subject: str, scale: float, names: list[str]) -> list[float]:
    """Run each named unit N and 3N times between marks; return the seconds each took, in order."""
    SUBJECTS[subject].attach(asyncio.get_running_loop())
    await begun()
    seconds = []
    for name in names:
        unit, n = UNITS[name]
        n = max(1, int(n * scale))
        await unit(max(1, n // 4))
        for times in TIMES:
            gc.collect()
            mark()
            began = time.perf_counter()
            await unit(n * times)
            seconds.append(time.perf_counter() - began)
            mark()
    return seconds


if __name__ == "__main__":
    _, subject, scale, _, *names = sys.argv
    SUBJECTS[subject].prepare()
    print(json.dumps(asyncio.run(measure(subject, float(scale), names))), flush=True)
    os._exit(0)  # some peers leave threads that never end
