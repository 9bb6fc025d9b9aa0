"""Stalls from outside the loop's thread: other threads, other processes, signals; and two at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

from ._kind import Kind, Sized, full_name


class GilHog(Sized):
    """Another thread computes in one C call that never releases the GIL."""

    title = "a thread hogging the GIL"
    cause = "gil"
    call = "sum"
    amount = 1_000_000

    def build(self, amount: int) -> None:
        self.numbers = range(amount)

    def work(self) -> None:
        sum(self.numbers)

    def run_when(self, go: threading.Event) -> None:
        go.wait()
        self.run()

    async def provoke(self) -> None:
        go = threading.Event()
        hog = threading.Thread(target=self.run_when, args=[go])
        hog.start()
        await asyncio.sleep(0.05)
        go.set()
        while hog.is_alive():
            await asyncio.sleep(0.005)


class Suspended(Kind):
    """A helper process stops this one with SIGSTOP and resumes it with SIGCONT."""

    title = "SIGSTOP, SIGCONT of the process"
    cause = "suspended"
    culprit = None

    HELPER = """
import os, signal, sys, time
pid, seconds = int(sys.argv[1]), float(sys.argv[2])
started_at, start = time.time(), time.perf_counter()
os.kill(pid, signal.SIGSTOP)
time.sleep(seconds)
os.kill(pid, signal.SIGCONT)
print(started_at, time.perf_counter() - start)
"""

    async def provoke(self) -> None:
        arguments = [sys.executable, "-I", "-S", "-c", self.HELPER, str(os.getpid()), str(self.seconds)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as helper:
            while helper.poll() is None:
                await asyncio.sleep(0.005)
            started_at, duration = map(float, helper.stdout.read().split())  # type: ignore[union-attr]
        self.keep(started_at, duration, cpu_share=0.0)


class Starved(Kind):
    """Other processes compete for the one CPU that this process may run on."""

    title = "starvation by competing processes"
    cause = "starved"
    hogs = 5

    HOG = """
import sys, time
print(flush=True)
sys.stdin.readline()
end = time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < end:
    pass
"""

    def prepare(self) -> None:
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpu})
        arguments = [sys.executable, "-I", "-S", "-c", self.HOG, str(self.seconds)]
        self.running = [
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(self.hogs)
        ]
        for hog in self.running:
            hog.stdout.readline()  # type: ignore[union-attr]

    def set_off(self) -> None:
        for hog in self.running:
            hog.stdin.close()  # type: ignore[union-attr]

    def work(self) -> None:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass


class TwoLoops(Kind):
    """Two loops in two threads stall at once, for different reasons."""

    title = "two loops in two threads at once"
    cause = "blocking"
    call = "time.sleep"

    def work(self) -> None:
        time.sleep(self.seconds)

    def compute(self) -> None:
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass

    async def serve(self, go: threading.Event) -> None:
        while not go.is_set():
            await asyncio.sleep(0.002)
        with self.timed(
            loop_name="second", causes=("cpu",), culprit=full_name(type(self).compute), call=None
        ):
            self.compute()
        await asyncio.sleep(0.05)

    def second(self, go: threading.Event) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(self.serve(go))

    async def provoke(self) -> None:
        go = threading.Event()
        thread = threading.Thread(target=self.second, args=[go], name="second")
        thread.start()
        await asyncio.sleep(0.2)
        go.set()
        await asyncio.sleep(0.005)
        self.run()
        while thread.is_alive():
            await asyncio.sleep(0.005)
