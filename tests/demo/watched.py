"""A program under loopwatch that does what it is told, line by line: for ``loopwatch top`` to look at."""

import asyncio
import sys
import time

import loopwatch

PORT = int(sys.argv[1])


async def work() -> None:
    await asyncio.Event().wait()


def doze(seconds: float) -> None:
    time.sleep(seconds)


def spin(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sum(range(50))


async def main() -> None:
    tasks = [asyncio.create_task(work(), name=f"job-{number}") for number in range(40)]
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, _, seconds = line.strip().partition(" ")
        print(f"begins {name}", flush=True)
        {"doze": doze, "spin": spin}[name](float(seconds))
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    loopwatch.install(service_name="watched", prometheus_port=PORT)
    asyncio.run(main())
