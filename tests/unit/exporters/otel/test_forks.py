"""A fork while an export hangs: the child has nothing of it, and the parent loses nothing by it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.loops.provoked import but_stalls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="lists what is open as Linux has it")

PROGRAM = """
import asyncio, os, socket, sys, threading, time
from contextlib import suppress

import loopwatch
from loopwatch import _threads
from loopwatch.exporters.otel import delivery, service

def sockets():
    names = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the directory itself
            names.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in names if name.startswith("socket:")}

def threads():
    return [thread.name for thread in threading.enumerate() if "otel" in thread.name]

def in_child(found):
    read, write = os.pipe()
    if not (pid := os.fork()):
        os.write(write, repr(found()).encode())
        os._exit(0)
    os.close(write)
    with open(read) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text

def answer(connection):
    received = b""
    while b"\\r\\n\\r\\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\\r\\n\\r\\n")
    [length] = [int(line.split(b":")[1]) for line in head.split(b"\\r\\n") if b"ength" in line]
    while len(body) < length:
        body += connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    return head.split()[1].decode()

async def hanging():
    "Return the connection of an export that hangs, and what else of sockets there is since ``before``."
    agent._engine.otel.start()
    connection, _ = listener.accept()  # here: a thread of the program's would be warned of at a fork, too
    connection.settimeout(60)
    connection.recv(1, socket.MSG_PEEK)
    return connection, sockets() - before - {os.readlink(f"/proc/self/fd/{connection.fileno()}")}

listener = socket.create_server(("127.0.0.1", 0))
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60"
os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "100"
"""


def but_ours(text: str) -> list[str]:
    """Return the lines but the one that says that the export was broken off at the end, and of stalls."""
    return [line for line in but_stalls(text) if not line.startswith("loopwatch: the export by OTLP")]


YOUNG = (
    PROGRAM
    + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # there is a thread, which hangs
delivery.USUAL = 600.0  # it may be answered any moment: it is not interrupted
agent = loopwatch.install(prometheus_port=None, hold_dump=False, stall_threshold=9.0)

async def main():
    global before
    before = sockets()
    connection, of_export = await hanging()
    print(len(of_export), in_child(lambda: sockets() & of_export), of_export <= sockets(), threads())
    print(answer(connection), answer(connection))  # and the next one comes by the same connection
    connection.close()

asyncio.run(main())
service.FLUSH = 0.1
loopwatch.uninstall()
listener.close()
"""
)


def test_a_child_has_no_connection_and_the_parents_export_goes_on(program: Any) -> None:
    done = program(YOUNG)
    assert done.stdout.splitlines() == ["1 set() True ['loopwatch-otel']", "/v1/metrics /v1/metrics"]
    assert but_ours(done.stderr) == []


OLD = (
    PROGRAM
    + """
delivery.USUAL = 0.0
_threads.WITHIN = 30.0  # however slow the machine is
agent = loopwatch.install(prometheus_port=None, hold_dump=False, stall_threshold=9.0)

async def main():
    global before
    before = sockets()
    for _ in range(10):
        connection, of_export = await hanging()
        found = in_child(lambda: (sockets() & of_export, len(os.listdir("/proc/self/task"))))
        print(len(of_export), found, of_export & sockets(), threads())
        connection.close()
    connection, _ = await hanging()
    print(answer(connection))
    connection.close()

asyncio.run(main())
service.FLUSH = 0.1
loopwatch.uninstall()
listener.close()
"""
)


def test_an_export_that_hangs_does_not_hold_up_a_fork_and_is_made_again(program: Any) -> None:
    """The fork warns of no thread, as one that hangs would have it do."""
    done = program(OLD)
    assert done.stdout.splitlines() == ["1 (set(), 1) set() ['loopwatch-otel']"] * 10 + ["/v1/metrics"]
    assert but_ours(done.stderr) == []


UNINSTALLED = (
    PROGRAM
    + """
service.FLUSH = 0.1
service.GIVE_UP = 30.0  # however slow the machine is
agent = loopwatch.install(prometheus_port=None, hold_dump=False, stall_threshold=9.0)

async def main():
    global before
    before = sockets()
    connection, of_export = await hanging()
    loopwatch.uninstall()
    print(len(of_export), of_export & sockets(), threads())
    while len(os.listdir("/proc/self/task")) > 1:  # the kernel has threads for a moment longer
        time.sleep(0.001)
    print(in_child(lambda: (sockets() & of_export, len(os.listdir("/proc/self/task")))))
    connection.close()

asyncio.run(main())
listener.close()
"""
)


def test_an_uninstall_leaves_no_export_that_hangs(program: Any) -> None:
    done = program(UNINSTALLED)
    assert done.stdout.splitlines() == ["1 set() []", "(set(), 1)"]
    assert but_ours(done.stderr) == []


IMPORTS = """
import sys, threading
import loopwatch

before = set(sys.modules)
agent = loopwatch.install(prometheus_port=None, hold_dump=False, stall_threshold=9.0)
installed = set(sys.modules)
names = {"opentelemetry.sdk.metrics", "opentelemetry.exporter.otlp.proto.http.trace_exporter", "requests"}
print(names - installed, names & before, threading.active_count())

import asyncio
agent._engine.otel.start()
agent._engine.otel.flush()
later = {name.split(".")[0] for name in set(sys.modules) - installed}
print(sorted(later & {"opentelemetry", "requests", "urllib3", "google", "grpc"}))
"""


def test_what_the_export_takes_is_imported_by_who_installs(sink: Any, program: Any) -> None:
    """And no thread for it is started then."""
    done = program(IMPORTS)
    assert done.stdout.splitlines() == ["set() set() 1", "[]"]
    assert sink.metrics
