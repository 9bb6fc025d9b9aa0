"""What counting references proves of tasks, against what the garbage collector then does to them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

import loopwatch
from loopwatch._collectors import keepers, references
from loopwatch._collectors.references import BY_US, BY_US_AND_WEAKLY, Proof, Prover
from loopwatch._collectors.subgraph import LARGE, LIMIT
from loopwatch._store.tasks import OwnRef

UNREFERENCED = Proof(held=False, wakeable=False)
STUCK = Proof(held=True, wakeable=False)
FINE = Proof(held=True, wakeable=True)
UNSURE = Proof(held=True, wakeable=None)

kept: list[Any] = []


@pytest.fixture(autouse=True)
def keep_nothing() -> Iterator[None]:
    yield
    kept.clear()


class Token:
    """Its death tells that the frame which had it is gone."""


def prove(ref: weakref.ref[Any]) -> Proof:
    """Return what is proven, but for what holds it: that has tests of its own."""
    return Prover().prove(ref)._replace(held_by=None)


def new_future() -> Any:
    return asyncio.get_running_loop().create_future()


async def bare() -> None:
    await new_future()


async def forever() -> None:
    await asyncio.Event().wait()


async def sleeping() -> None:
    await asyncio.sleep(1000)


class Own:
    """Tasks whose wait only they themselves could end."""

    async def future(self) -> None:
        await bare()

    async def event(self) -> None:
        await forever()

    async def lock(self) -> None:
        lock = asyncio.Lock()
        async with lock, lock:
            pass

    async def queue(self) -> None:
        await asyncio.Queue[None]().get()

    async def semaphore(self) -> None:
        async with asyncio.Semaphore(0):
            pass

    async def condition(self) -> None:
        condition = asyncio.Condition()
        async with condition:
            await condition.wait()

    async def generator(self) -> None:
        async def items() -> AsyncIterator[int]:
            await bare()
            yield 1

        async for _ in items():
            pass

    async def suspended_generator(self) -> None:
        async def items() -> AsyncIterator[int]:
            future = asyncio.get_running_loop().create_future()
            yield await future if future.done() else 1

        async for _ in items():
            await bare()

    async def child(self) -> None:
        await asyncio.create_task(bare())

    async def children(self) -> None:
        await asyncio.gather(bare(), forever())

    async def group(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(bare())

    async def shielded(self) -> None:
        await asyncio.shield(bare())

    async def waited(self) -> None:
        await asyncio.wait([asyncio.create_task(bare()), asyncio.create_task(forever())])

    async def closure(self) -> None:
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: future)
        await future

    async def partial(self) -> None:
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(functools.partial(print, future, end=future))
        await future

    async def traceback(self) -> None:
        future = asyncio.get_running_loop().create_future()
        try:
            await self.raising(future)
        except LookupError as error:
            self.error = error
            await future

    async def raising(self, future: Any) -> None:
        raise LookupError

    async def context(self) -> None:
        variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
        variable.set(asyncio.current_task())
        await bare()

    async def method(self) -> None:
        self.task = asyncio.current_task()
        self.event_of_mine = asyncio.Event()
        await self.event_of_mine.wait()


OWN = [name for name in vars(Own) if not name.startswith("_") and name != "raising"]


async def with_token(token: Token, name: str) -> None:
    await getattr(Own(), name)()


@pytest.mark.parametrize("name", OWN)
class TestOwn:
    """Tasks that nothing else can wake."""

    def test_unreferenced(self, loop_thread: Any, name: str) -> None:
        """Nothing holds it, and the collector agrees."""
        token = Token()
        alive = weakref.ref(token)
        ref = loop_thread.start(with_token, token, name)
        del token
        assert prove(ref) == UNREFERENCED
        gc.collect()
        assert alive() is None

    def test_in_a_set(self, loop_thread: Any, name: str) -> None:
        """A set holds it, but cannot wake it."""
        ref = loop_thread.start(getattr(Own(), name))
        kept.append({ref()})
        assert prove(ref) == STUCK
        kept.clear()
        assert prove(ref) == UNREFERENCED

    def test_in_a_set_that_it_leaves_when_done(self, loop_thread: Any, name: str) -> None:
        ref = loop_thread.start(getattr(Own(), name))
        kept.append({ref()})
        loop_thread.call(lambda: ref().add_done_callback(kept[0].discard))
        assert prove(ref) == STUCK

    def test_in_debug_mode(self, loop_thread: Any, name: str) -> None:
        """Source tracebacks and origins add objects, no references."""
        loop_thread.loop.set_debug(True)
        ref = loop_thread.start(getattr(Own(), name))
        assert prove(ref) == UNREFERENCED

    def test_watched(self, loop_thread: Any, name: str) -> None:
        """What loopwatch itself adds to a task holds nothing."""
        agent = loopwatch.install(prometheus_port=None, stall_threshold=60)
        try:
            loopwatch.watch(loop_thread.loop)
            loop_thread.call(int)
            ref = loop_thread.start(getattr(Own(), name))
            agent.snapshot()
            assert prove(ref) == UNREFERENCED
        finally:
            loopwatch.uninstall()


class TestHeldByOthers:
    """Tasks whose wait somebody else can end."""

    @pytest.mark.parametrize(
        ("make", "wait"),
        [
            (asyncio.Event, lambda event: event.wait()),
            (asyncio.Queue, lambda queue: queue.get()),
            (lambda: asyncio.Semaphore(0), lambda semaphore: semaphore.acquire()),
            (new_future, lambda future: future),
            (new_future, asyncio.shield),
            (new_future, lambda future: asyncio.gather(future, bare())),
        ],
    )
    def test_primitive(self, loop_thread: Any, make: Callable[[], Any], wait: Callable[[Any], Any]) -> None:
        async def waits(primitive: Any) -> None:
            await wait(primitive)

        async def made() -> Any:
            return make()

        kept.append(loop_thread.run(made()))
        ref = loop_thread.start(waits, kept[0])
        assert prove(ref) == FINE
        gc.collect()
        assert ref() is not None
        kept.clear()
        loop_thread.call(int)  # which lets the loop drop what it ran last
        assert prove(ref) == UNREFERENCED

    def test_sleep(self, loop_thread: Any) -> None:
        ref = loop_thread.start(sleeping)
        assert prove(ref) == FINE
        gc.collect()
        assert ref() is not None

    def test_timer(self, loop_thread: Any) -> None:
        async def waits() -> None:
            future = loop_thread.loop.create_future()
            loop_thread.loop.call_later(1000, future.set_result, None)
            await future

        assert prove(loop_thread.start(waits)) == FINE

    def test_socket(self, loop_thread: Any) -> None:
        ours, theirs = socket.socketpair()

        async def waits() -> None:
            await loop_thread.loop.sock_recv(ours, 1)

        with ours, theirs:
            ours.setblocking(False)
            ref = loop_thread.start(waits)
            assert prove(ref) == FINE
            gc.collect()
            assert ref() is not None
            theirs.send(b"x")
            loop_thread.call(int)

    def test_executor(self, loop_thread: Any) -> None:
        done = threading.Event()

        async def waits() -> None:
            await asyncio.to_thread(done.wait)

        try:
            assert prove(loop_thread.start(waits)) == FINE
        finally:
            done.set()

    def test_traceback_of_a_frame_that_ended(self, loop_thread: Any) -> None:
        """It holds the variables of that frame."""
        ref = loop_thread.start(Own().traceback)
        kept.append(ref().get_coro().cr_frame.f_locals["self"].error)
        assert prove(ref) == FINE

    def test_traceback_of_its_own_frame(self, loop_thread: Any) -> None:
        """It holds the frame, which holds nothing while its coroutine lives."""

        async def waits() -> None:
            try:
                raise LookupError
            except LookupError as error:
                kept.append(error)
            await bare()

        assert prove(loop_thread.start(waits)) == UNREFERENCED

    def test_manager(self, loop_thread: Any) -> None:
        """An object that keeps its tasks wakes those that wait for something of its own."""

        class Manager:
            def __init__(self) -> None:
                self.tasks: set[Any] = set()
                self.wanted = asyncio.Event()

            def start(self, coroutine: Coroutine[Any, Any, None]) -> weakref.ref[Any]:
                task = asyncio.get_running_loop().create_task(coroutine)
                self.tasks.add(task)
                task.add_done_callback(self.ended)
                return weakref.ref(task)

            def ended(self, task: Any) -> None:
                self.tasks.discard(task)

            async def on_demand(self) -> None:
                await self.wanted.wait()

            async def by_mistake(self) -> None:
                await forever()

        async def start() -> list[weakref.ref[Any]]:
            kept.append(Manager())
            return [kept[0].start(kept[0].on_demand()), kept[0].start(kept[0].by_mistake())]

        refs = loop_thread.run(start())
        loop_thread.call(int)
        assert [prove(ref) for ref in refs] == [FINE, STUCK]
        kept.clear()
        assert [prove(ref) for ref in refs] == [UNREFERENCED, UNREFERENCED]

    def test_stream_client(self, loop_thread: Any) -> None:
        """Its transport knows a reader but weakly: a task that reads may be collected meanwhile, or woken."""

        async def waits(address: Any) -> None:
            reader, writer = await asyncio.open_connection(*address)
            kept.append(weakref.ref(writer))
            await reader.read()
            writer.close()

        with socket.create_server(("127.0.0.1", 0)) as server:
            ref = loop_thread.start(waits, server.getsockname())
            connection, _ = server.accept()
            while not kept:
                loop_thread.call(int)
            loop_thread.call(int)
            assert prove(ref) == Proof(held=False, wakeable=None)
            connection.close()  # which wakes it
            while ref() is not None:
                loop_thread.call(int)


class TestOtherTasks:
    """Tasks held by tasks."""

    def test_awaited(self, loop_thread: Any) -> None:
        """Who is awaited is held as its parent is; who wakes the child wakes both."""
        children: list[weakref.ref[Any]] = []

        async def parent() -> None:
            child = asyncio.create_task(bare())
            children.append(weakref.ref(child))
            await child

        ref = loop_thread.start(parent)
        assert [prove(one) for one in (ref, *children)] == [UNREFERENCED, UNREFERENCED]
        kept.append(ref())
        assert [prove(one) for one in (ref, *children)] == [STUCK, STUCK]

    @pytest.mark.parametrize("how", ["gather", "group", "wait"])
    def test_stuck_child_beside_one_that_goes_on(self, loop_thread: Any, how: str) -> None:
        """Whoever waits for several and looks after them may cancel the others when one is done."""
        children: list[weakref.ref[Any]] = []

        async def child() -> None:
            children.append(weakref.ref(asyncio.current_task()))
            await bare()

        async def parent() -> None:
            if how == "gather":
                await asyncio.gather(sleeping(), child())
            elif how == "wait":
                await asyncio.wait([asyncio.ensure_future(sleeping()), asyncio.ensure_future(child())])
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(sleeping())
                    group.create_task(child())

        loop_thread.start(parent)
        assert prove(children[0]) == (UNSURE if how == "wait" else STUCK)

    def test_two_that_wait_for_each_other(self, loop_thread: Any) -> None:
        async def waits(other: int) -> None:
            await asyncio.sleep(0)
            await kept[0][other]

        def start() -> list[weakref.ref[Any]]:
            kept.append([])
            kept[0] += [loop_thread.loop.create_task(waits(1)), loop_thread.loop.create_task(waits(0))]
            return [weakref.ref(task) for task in kept[0]]

        refs = loop_thread.call(start)
        assert [prove(ref) for ref in refs] == [STUCK, STUCK]
        kept.clear()
        assert [prove(ref) for ref in refs] == [UNREFERENCED, UNREFERENCED]
        gc.collect()
        assert [ref() for ref in refs] == [None, None]

    def test_two_on_two_locks(self, loop_thread: Any) -> None:
        async def takes(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(0)
                async with second:
                    pass

        def start() -> list[weakref.ref[Any]]:
            locks = asyncio.Lock(), asyncio.Lock()
            tasks = [loop_thread.loop.create_task(takes(*order)) for order in (locks, locks[::-1])]
            kept.extend(tasks)
            return [weakref.ref(task) for task in tasks]

        refs = loop_thread.call(start)
        assert [prove(ref) for ref in refs] == [STUCK, STUCK]


class TestCancelled:
    """Tasks that nobody can wake but by cancelling them."""

    @pytest.mark.parametrize(
        "schedule",
        [
            lambda loop, task: loop.call_later(1000, task.cancel),
            lambda loop, task: loop.call_later(1000, lambda: task.cancel()),
            lambda loop, task: loop.call_later(1000, asyncio.Task.cancel, task),
            lambda loop, task: loop.call_later(1000, functools.partial(asyncio.Task.cancel, task)),
        ],
    )
    def test_by_a_timer(self, loop_thread: Any, schedule: Callable[..., Any]) -> None:
        def start() -> weakref.ref[Any]:
            task = loop_thread.loop.create_task(bare())
            schedule(loop_thread.loop, task)
            return weakref.ref(task)

        assert prove(loop_thread.call(start)) == UNSURE

    @pytest.mark.parametrize("own", [True, False])
    def test_by_a_timeout(self, loop_thread: Any, own: bool) -> None:
        """Its own, or one around whoever waits for it."""
        children: list[weakref.ref[Any]] = []

        async def child() -> None:
            children.append(weakref.ref(asyncio.current_task()))
            if own:
                async with asyncio.timeout(1000):
                    await bare()
            await bare()

        async def parent() -> None:
            async with asyncio.timeout(1000):
                await asyncio.create_task(child())

        loop_thread.start(child if own else parent)
        proof = prove(children[0])
        assert proof.held
        assert proof.wakeable is not False

    def test_by_wait_for(self, loop_thread: Any) -> None:
        async def waits() -> None:
            await asyncio.wait_for(forever(), 1000)

        proof = prove(loop_thread.start(waits))
        assert proof.held
        assert proof.wakeable is not False

    def test_by_another_thread(self, loop_thread: Any) -> None:
        future = asyncio.run_coroutine_threadsafe(bare(), loop_thread.loop)
        loop_thread.call(int)
        [ref] = [weakref.ref(task) for task in asyncio.all_tasks(loop_thread.loop)]
        assert prove(ref) == UNSURE
        future.cancel()

    def test_timers_that_are_too_many_leave_it_open(
        self, loop_thread: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(references, "TIMERS", 2)
        kept.append((ref := loop_thread.start(bare))())
        assert prove(ref) == STUCK
        loop_thread.call(lambda: [loop_thread.loop.call_later(1000, int) for _ in range(3)])
        assert prove(ref) == UNSURE


class Holder:
    """Has a task for itself, and may cancel it."""

    def __init__(self, task: Any) -> None:
        self.task = task

    def close(self) -> None:
        self.task.cancel()


class Owner:
    """Has a set of its own, in which it keeps tasks."""

    def __init__(self, *tasks: Any) -> None:
        self.tasks = set(tasks)

    def ended(self, task: Any) -> None:
        self.tasks.discard(task)


class TestHeldBy:
    """Whether nothing but collections hold a task, which can only be gone through."""

    @staticmethod
    def held_by(ref: weakref.ref[Any]) -> int | None:
        proof = Prover().prove(ref)
        assert proof.held is True
        return proof.held_by

    @pytest.mark.parametrize("others", [0, LARGE + 1, 20_000])
    def test_a_set_that_it_leaves_when_done(self, loop_thread: Any, others: int) -> None:
        """Of whatever size, among whatever else."""
        refs = [loop_thread.start(function) for function in (bare, forever)]
        holder = {ref() for ref in refs} | {object() for _ in range(others)}
        kept.append(holder)
        loop_thread.call(lambda: [ref().add_done_callback(holder.discard) for ref in refs])
        assert [self.held_by(ref) for ref in refs] == [id(holder)] * 2

    @pytest.mark.parametrize("kind", [list, deque])
    @pytest.mark.parametrize("others", [0, LARGE + 1])
    def test_a_list_that_it_leaves_when_done(self, loop_thread: Any, kind: Any, others: int) -> None:
        ref = loop_thread.start(bare)
        holder = kind([ref(), *range(others)])
        kept.append(holder)
        loop_thread.call(lambda: ref().add_done_callback(holder.remove))
        assert self.held_by(ref) == id(holder)

    def test_a_list_too_long_to_be_gone_through(
        self, loop_thread: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keepers, "LONG", LARGE + 5)
        ref = loop_thread.start(bare)
        holder = [ref(), *range(LARGE + 5)]
        kept.append(holder)
        loop_thread.call(lambda: ref().add_done_callback(holder.remove))
        assert self.held_by(ref) is None

    def test_a_global_variable_of_its_module(self, loop_thread: Any) -> None:
        ref = loop_thread.start(bare)
        kept.append(ref())
        assert self.held_by(ref) == id(kept)

    def test_a_callback_that_takes_it_out(self, loop_thread: Any) -> None:
        refs = [loop_thread.start(bare) for _ in range(2)]
        owner = Owner(refs[0]())
        closed_over = {refs[1]()}
        kept.extend([owner, closed_over])
        loop_thread.call(lambda: refs[0]().add_done_callback(owner.ended))
        loop_thread.call(lambda: refs[1]().add_done_callback(lambda task: closed_over.discard(task)))
        assert [self.held_by(ref) for ref in refs] == [id(owner.tasks), id(closed_over)]

    @pytest.mark.parametrize(
        "hold",
        [
            lambda task: task,
            lambda task: task.cancel,
            lambda task: lambda: task.cancel(),
            lambda task: {"task": task},
            lambda task: (task,),
            lambda task: {task},  # which no callback and no module leads to
            lambda task: {"tasks": [task]},
        ],
    )
    def test_who_has_it_for_himself_may_cancel_it(self, loop_thread: Any, hold: Callable[[Any], Any]) -> None:
        """Though a set has it as well."""
        ref = loop_thread.start(bare)
        holder = {ref()}
        kept.extend([holder, Holder(hold(ref()))])
        loop_thread.call(lambda: ref().add_done_callback(holder.discard))
        assert self.held_by(ref) is None

    def test_its_own_object_may_cancel_it(self, loop_thread: Any) -> None:
        """As a connection does that is closed, of a task that executes its method."""

        class Connection:
            async def keep(self) -> None:
                self.task = asyncio.current_task()
                await bare()

        async def start() -> weakref.ref[Any]:
            kept.append(Connection())
            return weakref.ref(asyncio.create_task(kept[-1].keep()))

        ref = loop_thread.run(start())
        loop_thread.call(int)
        assert self.held_by(ref) is None

    @pytest.mark.parametrize("make", [asyncio.TaskGroup, anyio.create_task_group])
    def test_a_task_group_may_cancel_it(self, loop_thread: Any, make: Callable[[], Any]) -> None:
        children: list[weakref.ref[Any]] = []

        async def child() -> None:
            children.append(weakref.ref(asyncio.current_task()))
            await bare()

        async def host() -> None:
            async with make() as group:
                getattr(group, "start_soon", lambda function: group.create_task(function()))(child)
                await asyncio.sleep(1000)

        loop_thread.start(host)
        assert self.held_by(children[0]) is None

    def test_of_two_sets_the_smaller_counts(self, loop_thread: Any) -> None:
        """Whoever has that may mean just this task."""
        ref = loop_thread.start(bare)
        all_tasks, of_one = {ref(), *range(20)}, {ref()}
        kept.extend([all_tasks, of_one])
        for holder in (all_tasks, of_one):
            loop_thread.call(ref().add_done_callback, holder.discard)
        assert self.held_by(ref) == id(of_one)

    def test_others_of_its_set_have_no_part_in_it(self, loop_thread: Any) -> None:
        """Whether one of them runs or sleeps, or behind which timer it is, says nothing of the others."""
        ref, other = loop_thread.start(bare), loop_thread.start(sleeping)
        holder = {ref(), other()}
        kept.append(holder)
        loop_thread.call(lambda: [one().add_done_callback(holder.discard) for one in (ref, other)])
        loop_thread.call(lambda: loop_thread.loop.call_later(1000, other().cancel))
        assert self.held_by(ref) == id(holder)

    def test_a_job_is_held_by_us(self, loop_thread: Any) -> None:
        ref = OwnRef(loop_thread.call(lambda: loopwatch.spawn(bare())))
        assert self.held_by(ref) == BY_US
        kept.append(weakref.WeakSet([ref()]))  # who goes through this may cancel it
        assert self.held_by(ref) == BY_US_AND_WEAKLY
        kept.append(Holder(ref()))
        assert self.held_by(ref) is None

    def test_a_task_kept_by_us(self, loop_thread: Any) -> None:
        loopwatch.install(prometheus_port=None, stall_threshold=60, keep_tasks=True)
        try:
            loopwatch.watch(loop_thread.loop)
            loop_thread.call(int)
            ref = OwnRef(loop_thread.start(bare)())
            assert self.held_by(ref) == BY_US
            holder = {ref()}
            kept.append(holder)
            loop_thread.call(lambda: ref().add_done_callback(holder.discard))
            assert self.held_by(ref) == id(holder)
        finally:
            loopwatch.uninstall()


class TestUnsure:
    """Where it cannot be told, it is not said."""

    def test_weakly_known(self, loop_thread: Any) -> None:
        """Somebody may find the event through a weak reference, as long as the task keeps it."""
        listeners: weakref.WeakSet[asyncio.Event] = weakref.WeakSet()

        async def waits() -> None:
            event = asyncio.Event()
            listeners.add(event)
            await event.wait()

        ref = loop_thread.start(waits)
        assert prove(ref) == Proof(held=False, wakeable=None)
        kept.append(ref())
        assert prove(ref) == UNSURE

    def test_future_of_another_make(self, loop_thread: Any) -> None:
        """Who would wake its task may hold it in ways that cannot be seen."""

        class Foreign:
            _asyncio_future_blocking = False

            def __await__(self) -> Any:
                self._asyncio_future_blocking = True
                yield self

            def get_loop(self) -> Any:
                return loop_thread.loop

            def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
                self.callback = callback

            def cancel(self, msg: Any = None) -> bool:
                loop_thread.loop.call_soon(self.callback, self)
                return True

            def result(self) -> None:
                raise asyncio.CancelledError

        async def waits() -> None:
            await Foreign()

        kept.append((ref := loop_thread.start(waits))())
        assert prove(ref) == UNSURE

    def test_held_by_what_is_too_large_to_follow(self, loop_thread: Any) -> None:
        async def waits(others: list[Any]) -> None:
            others += [object() for _ in range(LARGE)]
            others.append(asyncio.current_task())
            await bare()

        assert prove(loop_thread.start(waits, [])).held

    def test_held_by_what_is_too_far_away(self, loop_thread: Any) -> None:
        async def waits(others: list[Any]) -> None:
            innermost = others
            for _ in range(2 * LIMIT):
                innermost.append([])
                innermost = innermost[0]
            innermost.append(asyncio.current_task())
            await bare()

        assert prove(loop_thread.start(waits, [])).held

    def test_gone(self, loop_thread: Any) -> None:
        ref = loop_thread.start(bare)
        gc.collect()
        assert prove(ref) == Proof(None, None)

    def test_ended(self, loop_thread: Any) -> None:
        async def ends() -> None:
            pass

        kept.append(loop_thread.call(lambda: loop_thread.loop.create_task(ends())))
        assert prove(weakref.ref(kept[0])) == Proof(None, None)

    def test_interpreter_that_counts_otherwise(
        self, loop_thread: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(references, "_counts_are_exact", lambda: False)
        assert prove(loop_thread.start(bare)) == Proof(None, None)


def test_running_and_ready_tasks_are_held(loop_thread: Any) -> None:
    async def runs() -> list[Proof]:
        ready = asyncio.get_running_loop().create_task(asyncio.sleep(0))
        return [prove(weakref.ref(task)) for task in (asyncio.current_task(), ready)]

    assert loop_thread.run(runs()) == [FINE, FINE]


def test_python_implementation(loop_thread: Any) -> None:
    kind = vars(asyncio.tasks)["_PyTask"]
    ref = loop_thread.call(lambda: weakref.ref(kind(bare(), loop=loop_thread.loop)))
    kept.append(ref())
    assert prove(ref) == STUCK
    kept.clear()
    assert prove(ref) == UNREFERENCED


@pytest.mark.skipif(sys.version_info < (3, 14), reason="frames borrow from 3.14 on")
def test_borrowed_references_do_not_count(loop_thread: Any) -> None:
    """A generator at a ``yield`` may have an object twice while it owns one reference: the other is held."""

    def suspended(future: Any) -> Iterator[None]:
        print(future, (yield))

    async def waits(holder: list[Any]) -> None:
        future = asyncio.get_running_loop().create_future()
        generator = suspended(future)
        next(generator)
        holder.append(future)
        await future

    kept.append([])
    assert prove(loop_thread.start(waits, kept[0])) == FINE


def test_a_loop_at_full_speed_has_no_lost_tasks(loop_thread: Any) -> None:
    """References move all the time; every task here is awaited, in a set, and woken by others in the end."""
    stop = threading.Event()
    refs: dict[int, weakref.ref[Any]] = {}

    async def stage(inbox: asyncio.Queue[Any], outbox: asyncio.Queue[Any]) -> None:
        while True:
            item = await inbox.get()
            answer = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(answer.set_result, item)
            await outbox.put(await answer)

    async def request(queue: asyncio.Queue[Any], lock: asyncio.Lock) -> None:
        async with lock:
            queue.put_nowait(object())
            await asyncio.gather(asyncio.sleep(0), asyncio.shield(asyncio.ensure_future(asyncio.sleep(0))))

    async def traffic() -> None:
        queues = [asyncio.Queue[Any]() for _ in range(4)]
        lock = asyncio.Lock()
        pairs = zip(queues, queues[1:] + queues[:1], strict=True)
        tasks = {asyncio.create_task(stage(*pair)) for pair in pairs}
        for _ in range(3):
            queues[0].put_nowait(object())
        stages = set(tasks)
        while not stop.is_set():
            for _ in range(5):
                task = asyncio.create_task(request(queues[1], lock))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            refs.update((id(task), weakref.ref(task)) for task in tasks)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        for task in stages:
            task.cancel()

    running: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(traffic(), loop_thread.loop)
    try:
        proofs = []
        while len(proofs) < 3000:
            prover = Prover()
            proofs += [prover.prove(ref) for ref in list(refs.values())[-50:]]
    finally:
        stop.set()
        running.result(30)
    assert [proof for proof in proofs if False in proof] == []
