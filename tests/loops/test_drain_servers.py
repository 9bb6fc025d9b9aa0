"""Real server processes with a FastAPI service: each ends in its own way, and the drain names every job."""

from __future__ import annotations

import importlib.util
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from signal import SIGTERM

import pytest

from .child import SLACK, Child

pytest.importorskip("fastapi", reason="needs: fastapi")

TIMEOUT = 4.0
"""Seconds, in which the short jobs end also on a busy machine."""

SERVICE = """
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI

loopwatch.install(prometheus_port=None, drain_timeout=TIMEOUT)

async def work(number, seconds):
    while JOBS.drain_began is None:
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    say("finished", number)

@asynccontextmanager
async def lifespan(app):
    if os.environ["LOOP_KIND"] == "eager":
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    yield
    say("shutdown of the application")

app = FastAPI(lifespan=lifespan)
app.add_middleware(loopwatch.drain_lifespan, timeout=TIMEOUT)
tasks = []

@app.post("/jobs")
async def start_jobs():
    for number in range(140):
        loopwatch.spawn(work(number, number * 0.004), name=f"short-{number}")
    for number in range(50):
        loopwatch.spawn(work(number, 600), name=f"long-{number}")
    tasks.extend(asyncio.create_task(forever(), name=f"task-{number}") for number in range(10))

@app.post("/mails")
async def send_mail(background: BackgroundTasks):
    background.add_task(asyncio.sleep, 0.5)

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
    os.execv(sys.executable, [sys.executable, "-m", *COMMAND])
elif importlib.util.find_spec("uvicorn_worker"):
    from uvicorn_worker import UvicornWorker

    class Worker(UvicornWorker):
        CONFIG_KWARGS = {"loop": LOOP}
"""

COMMANDS = {
    "uvicorn": ["uvicorn", "program:app", "--port=0", "--loop=LOOP"],
    "gunicorn": ["gunicorn", "program:app", "--bind=127.0.0.1:0", "--worker-class=program.Worker"],
    "hypercorn": ["hypercorn", "program:app", "--bind=127.0.0.1:0", "--worker-class=LOOP"],
}
NEEDED = {"uvicorn": ("uvicorn",), "gunicorn": ("gunicorn", "uvicorn_worker"), "hypercorn": ("hypercorn",)}
STATUS = {"uvicorn": -SIGTERM, "gunicorn": 0, "hypercorn": 0}
"""With what each server ends after SIGTERM when nobody watches it."""


@pytest.fixture(scope="module")
def draining(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Child]]:
    """The service under each server installed: all have been given jobs, then SIGTERM, and now drain."""
    kind = request.config.getoption("--loop")
    loop = "uvloop" if kind == "uvloop" else "asyncio"
    with ExitStack() as stack:
        children = {}
        for server, words in COMMANDS.items():
            if missing(server) is None:
                command = [word.replace("LOOP", loop) for word in words]
                head = f"import importlib.util\nTIMEOUT, LOOP, COMMAND = {TIMEOUT}, {loop!r}, {command}\n"
                child = Child(head + SERVICE, kind, tmp_path_factory.mktemp(server))
                stack.callback(child.close)
                children[server] = child
        urls = {server: url_of(child) for server, child in children.items()}
        for server, child in children.items():
            post(f"{urls[server]}/jobs")
            post(f"{urls[server]}/mails")
            child.send(SIGTERM)
        yield children


@pytest.fixture
def child(server: str, new_loop: object, request: pytest.FixtureRequest) -> Child:
    """One of them, on loops of the kind of ``new_loop``."""
    if name := missing(server):
        pytest.skip(f"needs: {name}")
    return request.getfixturevalue("draining")[server]  # type: ignore[no-any-return]


def missing(server: str) -> str | None:
    """Name what the server needs and is not installed."""
    return next((name for name in NEEDED[server] if importlib.util.find_spec(name) is None), None)


def url_of(child: Child) -> str:
    """Wait until the server says where it listens."""
    child.until("http://127.0.0.1:")
    return re.findall(r"http://127\.0\.0\.1:\d+", child.text)[-1]  # type: ignore[no-any-return]


def post(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as response:
        assert response.status == 200


@pytest.mark.parametrize("server", COMMANDS)
def test_every_job_is_in_the_report_and_the_server_ends_as_ever(child: Child, server: str) -> None:
    assert child.end() == STATUS[server]
    assert TIMEOUT <= child.took < TIMEOUT + 1.0 + SLACK
    outcome = child.outcome()
    finished = {f"short-{line.split()[1]}" for line in child.said if line.startswith("finished ")}
    assert outcome.finished == len(finished) == 140
    assert set(outcome.cancelled) == {f"long-{number}" for number in range(50)}
    assert set(outcome.abandoned) == {f"task-{number}" for number in range(10)}
    assert child.said.count("shutdown of the application") == 1
    assert child.text.count("loopwatch: draining") == 1
    assert "does nothing here" not in child.text
