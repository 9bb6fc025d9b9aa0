"""Random heaps around random tasks.

No proof may contradict what the garbage collector then does, nor a search of everything that is kept for
whoever could wake the task.
"""

from __future__ import annotations

import asyncio
import gc
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwatch._collectors.references import Prover


class Token:
    """Its death tells that the frame which had it is gone."""


class Plain:
    def __init__(self, held: Any) -> None:
        self.held = held


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


def suspended(held: Any) -> Iterator[None]:
    print(held, (yield))


def in_generator(held: Any) -> Iterator[None]:
    generator = suspended(held)
    next(generator)
    return generator


def with_dict_taken(held: Any) -> Plain:
    plain = Plain(held)
    vars(plain)["again"] = held
    return plain


def event_with(held: Any) -> asyncio.Event:
    event = asyncio.Event()
    vars(event)["held"] = held
    return event


WRAPPERS: list[Callable[[list[Any]], Any]] = [
    lambda held: held,
    lambda held: {0: held},
    lambda held: deque([held]),
    lambda held: lambda: held,
    lambda held: lambda default=held: default,
    lambda held: partial(print, held, end=held),
    lambda held: held.append,
    lambda held: types.MethodType(print, held),
    types.CellType,
    in_generator,
    Plain,
    Slotted,
    with_dict_taken,
    event_with,
    event_with,
    lambda held: "future",
    lambda held: "future",
]
"""What makes an object that refers to a list."""


async def waits(token: Token, variables: list[Any], awaited: Any) -> None:
    await (awaited.wait() if type(awaited) is asyncio.Event else awaited)


async def waits_below(token: Token, variables: list[Any], awaited: Any) -> None:
    await waits(token, [], awaited)


class Heap:
    """Objects of all kinds that refer to each other, and tasks that refer to them and wait for some."""

    def __init__(self, chance: Random, loop: asyncio.AbstractEventLoop) -> None:
        holders: list[list[Any]] = [[] for _ in range(chance.randint(2, 12))]
        self.objects = [chance.choice(WRAPPERS)(holder) for holder in holders]
        for place, one in enumerate(self.objects):
            if one == "future":
                self.objects[place] = loop.create_future()
                self.objects[place].add_done_callback(holders[place].append)
        self.tasks: list[Any] = []
        self.tokens: list[weakref.ref[Token]] = []
        for _ in range(chance.randint(1, 4)):
            token = Token()
            variables = chance.choices(self.objects, k=chance.randint(0, 2))
            awaitable = [one for one in self.objects if type(one) is asyncio.Event or asyncio.isfuture(one)]
            awaitable += [loop.create_future(), *self.tasks]
            if len(self.tasks) > 1:
                awaitable.append(asyncio.gather(*chance.sample(self.tasks, 2)))
            function = chance.choice([waits, waits_below])
            self.tasks.append(loop.create_task(function(token, variables, chance.choice(awaitable))))
            self.tokens.append(weakref.ref(token))
        for holder in chance.choices(holders, k=chance.randint(0, 15)):
            holder.append(chance.choice([*self.objects, *self.tasks]))


def woken_from(objects: Iterable[Any]) -> set[int]:
    """Return the ids of tasks that whoever has these objects could wake, not going through other tasks."""
    woken: set[int] = set()
    seen: set[int] = set()
    waiting = list(objects)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType, asyncio.BaseEventLoop)):
            continue
        seen.add(id(one))
        if isinstance(one, types.BuiltinMethodType) and isinstance(one.__self__, asyncio.Task):
            woken.add(id(one.__self__))
        elif isinstance(one, types.FunctionType):
            waiting += [held for held in (one.__closure__, one.__defaults__) if held]
        elif not isinstance(one, (asyncio.Task, types.CoroutineType)):
            waiting += gc.get_referents(one)
    return woken


def all_woken(kept: list[Any], tasks: dict[int, Any]) -> set[int]:
    """Return the ids of the tasks that go on, those woken by others included."""
    woken: set[int] = set()
    new = woken_from(kept) & tasks.keys()
    while new:
        woken |= new
        objects: list[Any] = []
        for key in new:
            coroutine = tasks[key].get_coro()
            while isinstance(coroutine, types.CoroutineType):
                held = gc.get_referents(coroutine)
                objects += [one for one in held if not isinstance(one, types.CoroutineType)]
                coroutine = coroutine.cr_await
            objects += [callback for callback, _ in tasks[key]._callbacks or ()]
        new = (woken_from(objects) & tasks.keys()) - woken
    return woken


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    gc.disable()
    yield loop
    gc.collect()
    gc.enable()
    loop.close()


async def rest() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_proofs(loop: asyncio.AbstractEventLoop, chance: Random) -> None:
    async def build() -> Heap:
        heap = Heap(chance, loop)
        await rest()
        return heap

    heap = loop.run_until_complete(build())
    kept = chance.choices([*heap.objects, *heap.tasks], k=chance.randint(0, 3))
    refs = [weakref.ref(task) for task in heap.tasks]
    tokens = heap.tokens
    del heap
    proofs = [Prover().prove(ref) for ref in refs]
    tasks = {id(task): task for ref in refs if (task := ref()) is not None}
    keys, woken = list(tasks), all_woken(kept, tasks)
    tasks.clear()
    task = None
    gc.collect()
    loop.run_until_complete(rest())
    for proof, key, token in zip(proofs, keys, tokens, strict=True):
        assert proof.held is not False or token() is None
        assert proof.wakeable is not False or key not in woken
        assert proof.held is not None
