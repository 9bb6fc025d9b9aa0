"""Does the agent keep quiet about a service that is busy but healthy?

A real asyncio server on loopback handles requests of a few milliseconds of CPU each, at 70 % of a core,
while a second process sends them at random times and reads ``/metrics`` every second. Usage::

    python tests/benchmarks/healthy.py [--seconds 60] [--share 0.7] [--loop stock|uvloop|both]

Prints what the service did, by its own clocks and by the agent's, and every reported stall. Exits with 1 if
the agent reports a stall that the service itself did not feel, or if the service was not as busy as asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import loopwatch

LOOPS = ("stock", "uvloop")
THRESHOLD = 0.1
CONNECTIONS = 16
"""Limit of requests in flight, so that the longest iteration stays well under the threshold."""
STEPS = (0.001, 0.003)
"""CPU seconds of the steps of one request; after each the request waits, as for a database."""
OVERHEAD = 0.0003
"""Approximate CPU seconds of a request besides its steps; only affects the pace."""
TOLERANCE = 0.05
DOCUMENT = json.dumps([{"id": i, "name": f"customer {i}"} for i in range(50)])


class Service:
    """The service, and what it knows about its own health."""

    def __init__(self) -> None:
        self.served = 0
        self.longest_gap = 0.0
        self.gaps: list[tuple[float, float]] = []
        """Unix time and length of each gap in its service longer than the threshold."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while await reader.readline():
            for seconds in STEPS:
                compute(seconds)
                await asyncio.sleep(0.001)
            writer.write(b"done\n")
            self.served += 1
        writer.close()

    async def tick(self) -> None:
        """Notice by the service's own clock when the loop does not serve."""
        while True:
            started_at, start = time.time(), time.perf_counter()
            await asyncio.sleep(0.005)
            gap = time.perf_counter() - start
            self.longest_gap = max(self.longest_gap, gap)
            if gap > THRESHOLD:
                self.gaps.append((started_at, gap))

    def felt(self, stall: loopwatch.Stall) -> bool:
        """Whether the service was blocked at that time by its own clock, as may happen on a busy machine."""
        return any(
            started_at < stall.started_at + stall.duration and stall.started_at < started_at + gap
            for started_at, gap in self.gaps
        )


def compute(seconds: float) -> None:
    """Compute for ``seconds`` of CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        json.loads(DOCUMENT)


async def serve(seconds: float, share: float) -> bool:
    """Serve under load for some time, print what happened, and return whether all was as it should be."""
    agent = loopwatch.install(prometheus_port=0, stall_threshold=THRESHOLD)
    service = Service()
    server = await asyncio.start_server(service.handle, "127.0.0.1", 0)
    ticking = asyncio.create_task(service.tick())
    start, loop_cpu, process_cpu = time.perf_counter(), time.thread_time(), time.process_time()
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, f"--seconds={seconds}", f"--scrape={agent.prometheus_url}"),
        f"--load={server.sockets[0].getsockname()[1]}",
        f"--pace={share / (sum(STEPS) + OVERHEAD)}",
        stdout=subprocess.PIPE,
    )
    said, _ = await client.communicate()
    wall = time.perf_counter() - start
    reached = (time.thread_time() - loop_cpu) / wall
    with_threads = (time.process_time() - process_cpu) / wall
    ticking.cancel()
    server.close()
    print(
        f"Python {platform.python_version()}: {wall:.1f} s, {service.served} requests; "
        f"{said.decode().strip()}\n"
        f"  CPU {reached:.1%} of a core in the loop's thread, {with_threads:.1%} in all; "
        f"longest gap in service {told(service.longest_gap)}"
    )
    return report(agent, service) and abs(reached - share) <= TOLERANCE


def report(agent: loopwatch.Agent, service: Service) -> bool:
    """Print what the agent says, and return whether it gave no false alarm."""
    for loop in agent.loops():
        print(
            f"  agent: loop {loop.name} ({loop.kind}), delay p50 {told(loop.delay_p50)}, "
            f"p99 {told(loop.delay_p99)}, max {told(loop.delay_max)}, "
            f"utilization {loop.utilization or 0.0:.1%}, {loop.iterations} iterations"
        )
    stalls = agent.stalls()
    false_alarms = [stall for stall in stalls if not service.felt(stall)]
    print(f"  {len(stalls)} stalls reported, {len(false_alarms)} of them false alarms")
    for stall in stalls:
        print(f"    {stall.duration:.3f} s {stall.cause} {stall.culprit} {dict(stall.evidence)}")
    return not false_alarms


def told(seconds: float | None) -> str:
    """Return a duration in milliseconds, as text."""
    return "unknown" if seconds is None else f"{1000 * seconds:.1f} ms"


async def load(port: int, pace: float, seconds: float, metrics_url: str) -> None:
    """Send requests at random times, ``pace`` of them a second, and read the metrics meanwhile."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []

    async def request() -> None:
        reader, writer = await free.get()
        start = time.perf_counter()
        writer.write(b"work\n")
        await reader.readline()
        latencies.append(time.perf_counter() - start)
        free.put_nowait((reader, writer))

    scraping = asyncio.create_task(scrape(metrics_url))
    start = due = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        while due < start + seconds:
            requests.create_task(request())
            due += random.expovariate(pace)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    scraping.cancel()
    latencies.sort()
    median, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    print(f"latency p50 {told(median)}, p99 {told(p99)}, max {told(latencies[-1])}")


async def scrape(url: str) -> None:
    """Read the metrics once a second."""
    while True:
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
        await asyncio.sleep(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--share", type=float, default=0.7, help="of one core, for the thread of the loop")
    parser.add_argument("--loop", choices=[*LOOPS, "both"], default="both")
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--pace", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--scrape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        asyncio.run(load(options.load, options.pace, options.seconds, options.scrape))
        return 0
    if options.loop == "both":  # each in a process of its own
        options_left = [f"--seconds={options.seconds}", f"--share={options.share}"]
        commands = [[sys.executable, __file__, *options_left, f"--loop={loop}"] for loop in LOOPS]
        return max(subprocess.run(command, check=False).returncode for command in commands)
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        met = runner.run(serve(options.seconds, options.share))
    print("  met" if met else "  MISSED")
    return 0 if met else 1


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory for loops of this kind."""
    if loop == "stock":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
