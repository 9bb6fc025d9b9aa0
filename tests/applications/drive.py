"""Drives real applications from PyPI with real requests, without the agent and under ``loopwatch run``.

Each application lives in an environment of its own, with loopwatch installed from this checkout; no code of
loopwatch is put into it. Both runs must behave alike, and in the watched one the stalls that ordinary use
provokes must be named with the application's own function. Prints what was seen; exit status 1 if it was not
as expected.

    python tests/applications/drive.py [--environments DIR] [--rounds N]

Settings of the agent are taken from the environment, such as LOOPWATCH_STALL_THRESHOLD=0.03.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from applications import APPLICATIONS, Application, Reply
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
"""Seconds until something is taken to have failed; nothing waits that long when all is well."""
OWN_DOING = ("cpu", "blocking", "flood")
"""Causes that are the running function's doing. For a collection, another thread's hold of the GIL or a busy
machine there may be nobody of the application to name."""
VOLATILE_HEADERS = ("date", "etag", "last-modified", "content-length", "set-cookie")
"""Headers of which the values differ from run to run: times, signatures, and what depends on them."""


@dataclass
class Step:
    """One thing a user did: what came back, and what could be seen meanwhile."""

    title: str
    reply: Reply
    seconds: float
    neighbour: float
    """The longest that a small request of somebody else's took, in seconds: the stall as users feel it."""
    stalls: dict[tuple[str, str], float] = field(default_factory=dict)
    """Seconds that the agent counted meanwhile, by function and cause."""


@dataclass
class Run:
    """One life of an application."""

    steps: list[Step]
    log: list[str]
    exit_status: int
    loops: dict[str, str] = field(default_factory=dict)
    """Kind of each loop on ``/metrics``, by name."""
    written: dict[str, bytes] = field(default_factory=dict)
    """What it wrote, by file."""


def environment(application: Application, directory: Path) -> Path:
    """Make an environment with the application and this checkout; return where its commands are."""
    home = directory / application.name.replace(" ", "-")
    if not home.exists():
        venv.create(home, with_pip=True)
    commands = home / "bin"
    pip = [os.fspath(commands / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, application.requirement, os.fspath(ROOT)], check=True)
    return commands


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read()


class Neighbour(threading.Thread):
    """Another user, who asks for a small page again and again and notes the longest wait."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__()
        self.longest = 0.0
        self._port, self._path = port, path
        self._leave = threading.Event()

    def run(self) -> None:
        while not self._leave.wait(0.02):
            before = time.perf_counter()
            request(self._port, "GET", self._path)
            self.longest = max(self.longest, time.perf_counter() - before)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self.join()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Return once ``process`` takes connections; neither application has a word for that moment."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def running(command: list[str], port: int, directory: Path, environ: dict[str, str]) -> Iterator[Run]:
    """Run ``command`` until the block ends, then stop it as a supervisor does. Keeps log and exit status."""
    run = Run([], [], 0)
    with subprocess.Popen(
        command, cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        log = process.stdout
        assert log is not None
        reader = threading.Thread(target=lambda: run.log.extend(line.rstrip() for line in log))
        reader.start()
        try:
            wait_for(port, process)
            yield run
        except Exception:
            print(*run.log, sep="\n")
            raise
        finally:
            process.terminate()
            run.exit_status = process.wait(TIMEOUT)
            reader.join()


class Metrics:
    """What the agent's endpoint says."""

    def __init__(self, port: int) -> None:
        self.port = port

    def _samples(self, name: str) -> list[Any]:
        _, body = request(self.port, "GET", "/metrics")
        families = text_string_to_metric_families(body.decode())
        return [sample for family in families for sample in family.samples if sample.name == name]

    def loops(self) -> dict[str, str]:
        """Return the kind of each watched loop by its name."""
        samples = self._samples("asyncio_eventloop_info")
        return {s.labels["asyncio_eventloop_name"]: s.labels["asyncio_eventloop_type"] for s in samples}

    def stalls(self) -> dict[tuple[str, str], float]:
        """Return the seconds stalled so far by function and cause."""
        samples = self._samples("asyncio_eventloop_block_time_seconds_total")
        return {(s.labels["code_function_name"], s.labels["asyncio_block_cause"]): s.value for s in samples}


def drive(application: Application, commands: Path, directory: Path, port: int, *, watched: bool) -> Run:
    """Start the application on fresh data, do what its users do, stop it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    application.prepare(directory)
    metrics = Metrics(free_port()) if watched else None
    command = [*application.command, "--port", str(port)]
    if metrics:
        command = ["loopwatch", "run", "--prometheus-port", str(metrics.port), "--", *command]
    command[0] = os.fspath(commands / command[0])
    environ = {
        **os.environ,
        "PATH": os.pathsep.join([os.fspath(commands), os.environ["PATH"]]),
        "HOME": os.fspath(directory),
    }
    environ.pop("PYTHONPATH", None)
    with running(command, port, directory, environ) as run:
        run.steps.extend(use(application, port, metrics))
        if metrics:
            run.loops = metrics.loops()
    run.written = {name: (directory / name).read_bytes() for name in application.writes}
    return run


def use(application: Application, port: int, metrics: Metrics | None) -> Iterator[Step]:
    """Do what users do, and yield what came of it."""

    def send(method: str, path: str, body: bytes | None = None) -> Reply:
        response, content = request(port, method, path, body, dict(application.headers))
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:1000]!r}")
        return Reply(response.status, tuple(response.getheaders()), content)

    steps = application.use(send)
    while True:
        before = metrics.stalls() if metrics else {}
        with Neighbour(port, application.small) as neighbour:
            started = time.perf_counter()
            title, reply = next(steps, (None, None))
            seconds = time.perf_counter() - started
        if title is None or reply is None:
            return
        after = metrics.stalls() if metrics else {}
        grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
        stalls = {key: value for key, value in grown.items() if value > 0}
        yield Step(title, reply, seconds, neighbour.longest, stalls)


def stable_headers(reply: Reply) -> list[tuple[str, str]]:
    """Return the headers in their order, but for values that differ from run to run."""
    return [(name, "" if name.lower() in VOLATILE_HEADERS else value) for name, value in reply.headers]


def stable_bytes(body: bytes, volatile: tuple[str, ...]) -> str:
    """Return the JSON as it was sent, byte for byte, but for the values of these keys, at whatever depth."""
    text, decoder, parts, place = body.decode(), json.JSONDecoder(), [], 0
    for key in re.finditer(f'"(?:{"|".join(volatile)})": ?', text):
        if key.start() >= place:
            parts.append(text[place : key.end()])
            _, place = decoder.raw_decode(text, key.end())
    return "".join([*parts, text[place:]])


def differences(application: Application, bare: Run, watched: Run) -> Iterator[str]:
    """Yield what the application did otherwise under the agent than without it."""
    for one, other in zip(bare.steps, watched.steps, strict=True):
        if one.reply.status != other.reply.status:
            yield f"{one.title}: status {other.reply.status} instead of {one.reply.status}"
        if stable_headers(one.reply) != stable_headers(other.reply):
            yield f"{one.title}: headers {stable_headers(other.reply)} for {stable_headers(one.reply)}"
        if stable_bytes(one.reply.body, application.volatile) != stable_bytes(
            other.reply.body, application.volatile
        ):
            yield f"{one.title}: what was sent differs"
    for name in bare.written:
        if bare.written[name] != watched.written[name]:
            yield f"{name}: what was written differs"
    if bare.exit_status != watched.exit_status:
        yield f"exit status {watched.exit_status} instead of {bare.exit_status}"
    said, says = (
        {re.sub(r"[\d.:-]+|[0-9a-f]{12,}", "#", line) for line in run.log} for run in (bare, watched)
    )
    for line in sorted(says ^ said):
        if "loopwatch" not in line:
            yield f"logged {'only' if line in says else 'not'} under the agent: {line}"


def shortcomings(application: Application, run: Run) -> Iterator[str]:
    """Yield what the agent should have seen and did not."""
    if "main" not in run.loops:
        yield f"the loop is not on /metrics: {run.loops}"
    if not any(step.stalls for step in run.steps):
        yield "no stall was named"
    for step in run.steps:
        foreign = [
            name
            for name, cause in step.stalls
            if cause in OWN_DOING and not name.startswith(application.package + ".")
        ]
        if foreign:
            yield f"{step.title}: named {foreign}, not functions of {application.package}"
        if step.neighbour > 0.2 and not step.stalls:
            yield f"{step.title}: no stall, but another user waited {step.neighbour:.2f} s"


def report(bare: Run, watched: Run) -> None:
    """Print both runs, step by step."""
    print(f"  {'':36} {'bytes':>10}  {'took, bare':>10} {'watched':>8}  {'a neighbour':>11} {'watched':>8}")
    for one, other in zip(bare.steps, watched.steps, strict=True):
        print(
            f"  {one.title:36} {len(one.reply.body):10,}  {one.seconds:9.3f}s {other.seconds:7.3f}s "
            f" {one.neighbour:10.3f}s {other.neighbour:7.3f}s"
        )
        for (function, cause), seconds in sorted(other.stalls.items(), key=lambda item: -item[1]):
            print(f"      stalled {seconds:.3f}s  {cause:9} {function}")
    print(
        f"  loops on /metrics: {watched.loops}; exit status {bare.exit_status}, watched {watched.exit_status}"
    )
    for line in watched.log:
        if "loopwatch" in line:
            print(f"  | {line}")


def main() -> int:
    """Drive every application; return the exit status."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("--environments", type=Path, default=ROOT / ".ci/cache/applications")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--only", choices=[application.name for application in APPLICATIONS])
    options = arguments.parse_args()
    failed = 0
    for application in APPLICATIONS:
        if options.only not in (None, application.name):
            continue
        commands = environment(application, options.environments)
        for round_ in range(1, options.rounds + 1):
            print(f"{application.requirement}, round {round_}", flush=True)
            port = free_port()
            with tempfile.TemporaryDirectory() as directory:
                runs = [
                    drive(application, commands, Path(directory, "home"), port, watched=watched)
                    for watched in (False, True)
                ]
            report(*runs)
            wrong = [*differences(application, *runs), *shortcomings(application, runs[1])]
            print(
                "\n".join(f"  WRONG: {line}" for line in wrong)
                or "  byte for byte as without the agent, and watched"
            )
            failed += len(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
