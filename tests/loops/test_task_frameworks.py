"""Tasks of anyio's groups, and of a FastAPI service that uvicorn serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from loopwatch import Agent, Task

from .conftest import PATIENCE

anyio = pytest.importorskip("anyio", reason="needs: anyio")
fastapi = pytest.importorskip("fastapi", reason="needs: fastapi")
httpx = pytest.importorskip("httpx", reason="needs: httpx")
uvicorn = pytest.importorskip("uvicorn", reason="needs: uvicorn")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def eager(request: pytest.FixtureRequest) -> bool:
    """Whether anyio makes its tasks by ``asyncio.Task()`` itself, past the loop."""
    return bool(request.config.getoption("--loop") == "eager")


def live(agent: Agent, word: str) -> list[Task]:
    """Return the live tasks whose coroutine has this word in its name."""
    return [task for task in agent.tasks() if task.state == "pending" and word in task.coroutine]


async def waits(gate: asyncio.Event) -> None:
    await gate.wait()


class TestAnyio:
    """Task groups of anyio."""

    def test_its_tasks_are_known_by_what_they_run(self, agent: Agent, run: Run) -> None:
        async def main() -> list[Task]:
            gate = asyncio.Event()
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(waits, gate)
                await asyncio.sleep(0)
                seen = live(agent, "waits")
                gate.set()
            return seen

        seen = run(main())
        assert len(seen) == 3
        for task in seen:
            assert task.coroutine.rpartition(".")[2] == "waits"
            assert task.waiting_on == "Event.wait"
            assert [frame.function for frame in task.await_stack][-2:] == ["waits", "Event.wait"]

    def test_its_tasks_are_counted_for_who_asked_for_them(self, agent: Agent, run: Run, eager: bool) -> None:
        if eager:
            pytest.skip("anyio makes its tasks past an eager factory")

        async def child(number: int) -> None:
            await anyio.sleep(0)
            if number % 3 == 0:
                raise ValueError

        async def main() -> None:
            for number in range(30):
                with contextlib.suppress(ExceptionGroup):
                    async with anyio.create_task_group() as group:
                        group.start_soon(child, number)

        run(main())
        site = f"{__name__}.{main.__qualname__}"
        points: Any = agent.snapshot().points["task_finished"]
        finished = {point.labels[0]: point.value for point in points if point.labels[1] == site}
        # anyio 4.14 and later catch the failure within the task.
        assert finished["ok"] + finished["error"] == 30
        assert finished["cancelled"] == 0
        ended = [task for task in agent.tasks() if task.coroutine.endswith("child")]
        assert len(ended) == 30
        assert {task.parent for task in ended} == {main.__qualname__}

    def test_a_cancelled_scope_cancels_its_tasks(self, agent: Agent, run: Run) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(waits, asyncio.Event())
                await asyncio.sleep(0)
                assert len(live(agent, "waits")) == 1
                group.cancel_scope.cancel()
            await asyncio.sleep(0)
            assert live(agent, "waits") == []

        run(main())


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application with uvicorn in the running loop, and give a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE):
        while not server.started:
            await asyncio.sleep(0.01)
    (listener,) = server.servers[0].sockets
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client
    server.should_exit = True
    await serving


class TestFastAPI:
    """A service with background work."""

    @pytest.fixture
    def gate(self) -> asyncio.Event:
        return asyncio.Event()

    @pytest.fixture
    def app(self, gate: asyncio.Event) -> Any:
        app = fastapi.FastAPI()

        async def send_mail() -> None:
            await gate.wait()

        async def place(background: Any) -> dict[str, str]:
            background.add_task(send_mail)
            return {"status": "accepted"}

        place.__annotations__["background"] = fastapi.BackgroundTasks
        app.post("/orders")(place)
        return app

    def test_a_background_task_is_seen_in_the_task_of_its_request(
        self, agent: Agent, run: Run, app: Any, gate: asyncio.Event
    ) -> None:
        async def main() -> tuple[int, list[Task]]:
            async with served(app) as client:
                response = await client.post("/orders")
                async with asyncio.timeout(PATIENCE):
                    while not (seen := [task for task in live(agent, "run_asgi") if task.waiting_on]):
                        await asyncio.sleep(0.01)
                gate.set()
            return response.status_code, seen

        status, seen = run(main())
        assert status == 200
        (task,) = seen
        functions = [frame.function for frame in task.await_stack]
        assert any(function.endswith("send_mail") for function in functions)
        assert task.waiting_on == "Event.wait"
        assert task.site.module.startswith("uvicorn.protocols.http.")
        (ended,) = (task for task in agent.tasks() if task.coroutine == seen[0].coroutine)
        assert ended.state == "ok"
        assert ended.started_at == pytest.approx(task.started_at, abs=0.01)

    def test_every_request_is_one_task(self, agent: Agent, run: Run, app: Any, gate: asyncio.Event) -> None:
        async def main() -> None:
            gate.set()
            async with served(app) as client:
                for _ in range(5):
                    answers = await asyncio.gather(*(client.post("/orders") for _ in range(10)))
                    assert {answer.status_code for answer in answers} == {200}

        run(main())
        points: Any = agent.snapshot().points["task_finished"]
        finished = {point.labels: point.value for point in points if "uvicorn.protocols" in point.labels[1]}
        assert {outcome: count for (outcome, _), count in finished.items()} == {
            "ok": 50,
            "error": 0,
            "cancelled": 0,
        }
