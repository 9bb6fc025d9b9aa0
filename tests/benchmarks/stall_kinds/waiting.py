"""Stalls by waiting: calls that sleep until something else has happened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ._kind import Kind, LoopFactory, Short, Sized


class Sleep(Kind):
    title = "time.sleep"
    cause = "blocking"
    call = "time.sleep"

    def work(self) -> None:
        time.sleep(self.seconds)


class ShortSleep(Short, Sleep):
    title = "time.sleep, 0.03 s"


class SleepTwoDeep(Kind):
    title = "time.sleep, two calls deep"
    cause = "blocking"
    call = "time.sleep"
    culprit = "fetch"

    def work(self) -> None:
        self.load()

    def load(self) -> None:
        self.fetch()

    def fetch(self) -> None:
        time.sleep(self.seconds)


class SocketRecv(Kind):
    title = "socket.recv"
    cause = "blocking"
    call = "self.ours.recv"

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.ours, self.theirs = socket.socketpair()

    def set_off(self) -> None:
        threading.Timer(self.seconds, self.theirs.send, [b"late"]).start()

    def work(self) -> None:
        self.ours.recv(100)


class SubprocessRun(Kind):
    title = "subprocess.run"
    cause = "blocking"
    call = "subprocess.run"

    def work(self) -> None:
        program = f"import time; time.sleep({self.seconds - 0.1})"
        subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


class LockAcquire(Kind):
    title = "lock acquire"
    cause = "blocking"
    call = "self.lock.acquire"

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.lock = threading.Lock()

    def set_off(self) -> None:
        self.lock.acquire()
        threading.Timer(self.seconds, self.lock.release).start()

    def work(self) -> None:
        self.lock.acquire()


class ThreadJoin(Kind):
    title = "thread join"
    cause = "blocking"
    call = "self.thread.join"

    def set_off(self) -> None:
        self.thread = threading.Thread(target=time.sleep, args=[self.seconds])
        self.thread.start()

    def work(self) -> None:
        self.thread.join()


class FutureResult(Kind):
    title = "future.result()"
    cause = "blocking"
    call = "self.future.result"

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.executor = ThreadPoolExecutor(max_workers=1)

    def set_off(self) -> None:
        self.future = self.executor.submit(time.sleep, self.seconds)

    def work(self) -> None:
        self.future.result()


class Fsync(Sized):
    """One fsync of as many megabytes as take the required time."""

    title = "fsync"
    cause = "blocking"
    call = "os.fsync"
    amount = 20
    most = 4_000
    clock = staticmethod(time.perf_counter)
    megabyte = os.urandom(1_000_000)

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the process

    def build(self, amount: int) -> None:
        if amount > self.most:
            raise RuntimeError(
                f"fsync of {amount} MB in {tempfile.gettempdir()} is over too soon: "
                "it seems to lie in memory. Name a directory on a disk in TMPDIR."
            )
        self.file.seek(0)
        for _ in range(amount):
            self.file.write(self.megabyte)

    def work(self) -> None:
        os.fsync(self.file.fileno())
