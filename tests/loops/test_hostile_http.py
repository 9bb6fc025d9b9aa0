"""Whatever is sent to the endpoint, the loop is served as before, and the next scrape is answered."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from loopwatch import Agent
from loopwatch._document import PATH, read
from tests.machine import CpuWaits

from .conftest import PATIENCE

ATTACK = """
import os, socket, sys, threading

port = int(sys.argv[1])
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
for client in held[100:]:
    try:
        client.send(b"GET /metr")
    except OSError:
        pass
for sent in (
    os.urandom(1_000_000),
    b"A" * 10_000_000,
    b"GET /" + b"A" * 10_000_000 + b" HTTP/1.1\\r\\n\\r\\n",
    b"GET /../../etc/passwd HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n",
    b"GET /loopwatch.json HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n",
    b"GET /loopwatch.json HTTP/1.1\\r\\nHost: localhost\\r\\nOrigin: http://evil.example\\r\\n\\r\\n",
    b"POST /loopwatch.json HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 10\\r\\n\\r\\n0123456789",
):
    with socket.create_connection(("127.0.0.1", port)) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            print(client.makefile("rb").readline().decode().strip(), flush=True)
        except OSError as error:
            print(error, flush=True)
for client in held:
    client.close()
"""

ANSWERS = ["400 Bad Request"] * 3 + [
    "404 Not Found",
    "403 Forbidden",
    "403 Forbidden",
    "405 Method Not Allowed",
]
BEAT = 0.005
LATE = 0.05
"""Seconds of lateness that one beat in ten may have, besides what threads waited for a CPU meanwhile."""


def test_the_loop_is_served_and_nothing_is_lost(
    install: Callable[..., Agent], run: Callable[..., Any], cpu_waits: CpuWaits
) -> None:
    agent = install(prometheus_port=0)
    answers: list[str] = []
    over = threading.Event()

    def attack(port: str) -> None:
        try:
            done = subprocess.run(
                [sys.executable, "-c", ATTACK, port],
                stdout=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            answers.extend(done.stdout.splitlines())
        finally:
            over.set()

    async def main() -> list[float]:
        async with asyncio.timeout(PATIENCE):
            while agent.prometheus_url is None:
                await asyncio.sleep(BEAT)
        url = agent.prometheus_url
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=PATIENCE).close())
        threading.Thread(target=attack, args=(url.rpartition(":")[2].partition("/")[0],)).start()
        late = []
        while not over.is_set():
            due, waited = time.monotonic() + BEAT, cpu_waits.seconds()
            await asyncio.sleep(BEAT)
            late.append(time.monotonic() - due - (cpu_waits.seconds() - waited))
        text = await asyncio.to_thread(_get, url)
        found = {family.name: family.samples for family in text_string_to_metric_families(text.decode())}
        failed = {s.labels["loopwatch_component"]: s.value for s in found["loopwatch_internal_errors"]}
        assert set(failed.values()) == {0.0}
        document = read(await asyncio.to_thread(_get, url.replace("/metrics", PATH)))
        assert [loop.running for loop in document.snapshot.loops] == [True]
        return late

    late = run(main())
    assert answers == [f"HTTP/1.1 {answer}" for answer in ANSWERS]
    assert statistics.quantiles(late, n=10)[-1] < LATE


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body
