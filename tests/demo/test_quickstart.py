"""The quickstart, followed to the letter but for the ports: its files, its commands, what they show."""

from __future__ import annotations

import json
import re
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.pools.servers import free_port

from .programs import Program

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "quickstart.md").read_text(encoding="utf-8")
LOOKS = 1200
"""Of a tenth of a second each, after which what has not come about is a failure."""


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks of code under a heading of the page."""
    section = PAGE.partition(f"### {heading}\n")[2]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def answer(url: str) -> tuple[int, str]:
    """Ask; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(url: str, pattern: str, times: int = 1) -> str:
    """Ask again and again until what is answered has so many lines of that pattern; return it."""
    never = threading.Event()  # its timeout is the pause between two looks
    for _ in range(LOOKS):
        _, text = answer(url)
        if len(re.findall(pattern, text, re.MULTILINE)) == times:
            return text
        never.wait(0.1)
    pytest.fail(f"{url} never had {times} x {pattern}; at last:\n{text}")


class Here:
    """A directory with the page's files, and ports for what runs in it."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.directory = directory
        self._opened = opened
        self._port, self._metrics = free_port(), free_port()
        self.url, self.metrics = f"http://127.0.0.1:{self._port}", f"http://127.0.0.1:{self._metrics}/metrics"
        (directory / "worker.py").write_text(blocks("A plain program", "python")[0], encoding="utf-8")
        (directory / "shop.py").write_text(blocks("FastAPI under uvicorn", "python")[0], encoding="utf-8")

    def start(self, command: list[str], **environ: str) -> Program:
        """Run a command of the page, on ports of ours."""
        words = [re.sub(r"\b8000\b", str(self._port), word) for word in command]
        words = [words[1].removesuffix(".py"), *words[2:]] if words[0] == "python" else words
        return Program(
            self._opened,
            self.directory,
            *words,
            LOOPWATCH_PROMETHEUS_PORT=str(self._metrics),
            XDG_RUNTIME_DIR=str(self.directory),
            **environ,
        )


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with ExitStack() as opened:
        yield Here(tmp_path, opened)


def commands(heading: str) -> list[list[str]]:
    """Return the commands under a heading, each as words."""
    return [shlex.split(line) for block in blocks(heading, "sh") for line in block.splitlines()]


def test_a_plain_program(here: Here) -> None:
    run, curl = commands("A plain program")
    program = here.start(run)
    (promised,) = re.findall(r"^loopwatch: event loop .*$", PAGE, re.MULTILINE)
    said = program.line(r"LW102 warning: `time\.sleep` in `fetch` \(worker\.py:10\)")
    for text in (said, promised):
        assert re.search(
            r"blocked for \d+ ms \[\w+\] by time\.sleep in __main__\.fetch \(/.*worker\.py:10\)", text
        )
    assert curl[-1] == "block_time"
    assert re.search(
        r'^asyncio_eventloop_block_time_\w+\{.*"__main__\.fetch"', answer(here.metrics)[1], re.MULTILINE
    )


def test_fastapi_under_uvicorn(here: Here) -> None:
    here.start(commands("FastAPI under uvicorn")[0])
    until(here.url + "/livez", "alive")
    assert answer(here.url + "/readyz") == (200, '"ready"')
    until(here.metrics, "^asyncio_eventloop_info{")


@pytest.mark.parametrize("more", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn(here: Here, more: list[str]) -> None:
    here.start([*commands("gunicorn")[0], *more])
    until(here.url + "/livez", "alive")
    # One that the application is preloaded into has a loop, too: of its control socket.
    until(here.metrics, r"^loopwatch_worker_up\{process_pid=\"\d+\"\} 1\.0$", 4 + len(more))


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    (text,) = blocks("Kubernetes", "yaml")
    return list(YAML(typ="safe").load_all(text))


def test_the_container_of_kubernetes(here: Here, manifests: list[dict[str, Any]]) -> None:
    """What its image runs, with the variables it gets, answers each probe; scraped from outside of it."""
    (container,) = manifests[0]["spec"]["template"]["spec"]["containers"]
    (dockerfile,) = blocks("Kubernetes", "dockerfile")
    environ = {each["name"]: each["value"] for each in container["env"]}
    here.start(json.loads(re.findall("^CMD (.+)$", dockerfile, re.MULTILINE)[0]), **environ)
    until(here.url + "/livez", "alive")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "loopwatch": 9464}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert get["port"] == "http"
        assert answer(here.url + get["path"])[0] == 200
    until(here.metrics, "^asyncio_eventloop_info{")


def test_a_loop_under_pressure_is_not_ready(here: Here) -> None:
    """As the readiness probe sees it: busy without a pause, and alive."""
    busy = "\n@app.get('/busy')\nasync def busy() -> None:\n    import asyncio, time\n    while True:\n"
    with (here.directory / "shop.py").open("a", encoding="utf-8") as file:
        file.write(busy + "        time.sleep(0.15)\n        await asyncio.sleep(0)\n")
    here.start(commands("FastAPI under uvicorn")[0])
    until(here.url + "/readyz", "^.ready.$")
    threading.Thread(target=answer, args=(here.url + "/busy",), daemon=True).start()
    until(here.url + "/readyz", "under pressure")
    assert answer(here.url + "/readyz")[0] == 503
    assert answer(here.url + "/livez")[0] == 200


def test_the_pod_monitor_finds_the_pods(manifests: list[dict[str, Any]]) -> None:
    deployment, monitor = manifests
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
