"""Stalls by where the loop calls from: callbacks, timers, transports, readers, generators, finalizers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

from ._kind import Kind, Sized


class Flood(Sized):
    title = "5,000 ready callbacks"
    cause = "flood"
    culprit = "callback"
    count = 5_000
    amount = 20

    def build(self, amount: int) -> None:
        self.rounds = amount

    def work(self) -> None:
        for _ in range(self.count):
            self.callback()

    def callback(self) -> None:
        total = 0
        for i in range(self.rounds):
            total += i * i % 7

    async def provoke(self) -> None:
        loop = asyncio.get_running_loop()
        timed, over = self.timed(), loop.create_future()
        loop.call_soon(timed.__enter__)
        for _ in range(self.count):
            loop.call_soon(self.callback)
        loop.call_soon(timed.__exit__, None, None, None)
        loop.call_soon(over.set_result, None)
        await over


class CallLater(Kind):
    title = "a call_later callback"
    cause = "blocking"
    call = "time.sleep"
    culprit = "callback"

    def callback(self, over: asyncio.Future[None]) -> None:
        with self.timed():
            time.sleep(self.seconds)
        over.set_result(None)

    async def provoke(self) -> None:
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.call_later(0.01, self.callback, over)
        await over


class DataReceived(Kind):
    title = "Protocol.data_received"
    cause = "cpu"
    culprit = "Receiver.data_received"

    class Receiver(asyncio.Protocol):
        def __init__(self, kind: DataReceived, over: asyncio.Future[None]) -> None:
            self.kind, self.over = kind, over

        def data_received(self, data: bytes) -> None:
            with self.kind.timed():
                end = time.perf_counter() + self.kind.seconds
                while time.perf_counter() < end:
                    pass
            self.over.set_result(None)

    async def provoke(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        over = loop.create_future()
        transport, _ = await loop.create_connection(lambda: self.Receiver(self, over), sock=ours)
        theirs.send(b"request")
        await over
        transport.close()
        theirs.close()


class AddReader(Kind):
    title = "an add_reader callback"
    cause = "blocking"
    call = "time.sleep"
    culprit = "readable"

    def readable(self, over: asyncio.Future[None]) -> None:
        self.ours.recv(100)
        with self.timed():
            time.sleep(self.seconds)
        over.set_result(None)

    async def provoke(self) -> None:
        loop = asyncio.get_running_loop()
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        over = loop.create_future()
        loop.add_reader(self.ours, self.readable, over)
        theirs.send(b"request")
        await over
        loop.remove_reader(self.ours)
        self.ours.close()
        theirs.close()


class Finalizer(Kind):
    title = "a __del__"
    cause = "blocking"
    call = "time.sleep"
    culprit = "Session.__del__"

    class Session:
        def __init__(self, kind: Finalizer) -> None:
            self.kind = kind

        def __del__(self) -> None:
            with self.kind.timed():
                time.sleep(self.kind.seconds)

    def run(self) -> None:
        session = self.Session(self)
        del session


class AsyncGenerator(Kind):
    title = "an async generator"
    cause = "blocking"
    call = "time.sleep"
    culprit = "rows"

    async def rows(self) -> AsyncIterator[int]:
        yield 1
        with self.timed():
            time.sleep(self.seconds)
        yield 2

    async def provoke(self) -> None:
        async for _ in self.rows():
            await asyncio.sleep(0)
