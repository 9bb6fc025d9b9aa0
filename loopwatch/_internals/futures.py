"""Private parts of asyncio's futures and tasks: what a future is for, read without asking the future.

A subclass may override every public method, so attributes of the C implementation are read through its own
descriptors: no code of the program runs, in whichever thread. CPython 3.11 to 3.15, C and Python
implementation.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from asyncio import futures, tasks
from collections.abc import Callable
from types import FunctionType
from typing import Any

_C_FUTURE: type | None = getattr(futures, "_CFuture", None)
_C_TASK: type | None = getattr(tasks, "_CTask", None)
_FUTURES: tuple[type, ...] = (asyncio.Future, getattr(futures, "_PyFuture", asyncio.Future))
_ENDS_LOOP = frozenset(("_run_until_complete_cb", "run_until_complete.<locals>.done_cb"))
"""Callbacks, of asyncio and of uvloop 0.23, by which ``run_until_complete`` stops its loop."""
TASKS: tuple[type, ...] = (asyncio.Task, getattr(tasks, "_PyTask", asyncio.Task))
_GATHERING: type | None = getattr(tasks, "_GatheringFuture", None)

type_name: Callable[[type], str] = vars(type)["__name__"].__get__
"""The name of a class, whatever its metaclass makes of ``__name__``."""
_bases: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__


def is_of(found: object, kinds: tuple[type, ...]) -> bool:
    """Whether an object's class is, or is derived from, one of some abstract classes.

    For other classes ``issubclass`` will do. For these it would hash the object's class.
    """
    return any(base is kind for base in _bases(type(found)) for kind in kinds)


def _reader(of: type | None, name: str) -> Callable[[Any], Any]:
    """Return a reader of attribute ``name``, for futures of the C class ``of`` and ones written in Python."""
    descriptor = None if of is None else getattr(of, name, None)

    def read(future: Any) -> Any:
        if of is not None and issubclass(type(future), of):
            return None if descriptor is None else descriptor.__get__(future)
        return _attribute(future, name)

    return read


def _attribute(future: Any, name: str) -> Any:
    """Return an attribute of a future written in Python; of asyncio's, whatever its class overrides."""
    if not issubclass(type(future), _FUTURES):
        return getattr(future, name, None)
    try:
        return object.__getattribute__(future, name)
    except AttributeError:
        return None


coroutine_of = _reader(_C_TASK, "_coro")
"""The coroutine of a task; None once it has ended in its eager first step. On CPython 3.12.1 ``get_coro()``
would then crash the process."""
waiter_of = _reader(_C_TASK, "_fut_waiter")
"""The future a task waits for; None while it runs, is ready to run, or is done."""
loop_of = _reader(_C_FUTURE, "_loop")
_state = _reader(_C_FUTURE, "_state")
_callbacks = _reader(_C_FUTURE, "_callbacks")


def is_future(found: object) -> bool:
    """Whether ``found`` is a future of asyncio, or a task."""
    return issubclass(type(found), _FUTURES)


def is_task(found: object) -> bool:
    """Whether ``found`` is a task of asyncio."""
    return issubclass(type(found), TASKS)


def is_pending(future: Any) -> bool:
    """Whether a future of asyncio has no result yet; False for others, of which that is not known."""
    return is_future(future) and bool(_state(future) == "PENDING")


def is_done(task: Any) -> bool:
    """Whether a task is done, or what the program's factory made in place of one.

    One that refuses to say counts as not done: our done callback has already taken done ones off the records.
    """
    if is_future(task):
        return bool(_state(task) != "PENDING")
    try:
        return bool(task.done())
    except Exception:  # noqa: BLE001 - only the program's code can raise it
        return False


def living(ref: Callable[[], Any]) -> Any | None:
    """Return the task weakly referenced by ``ref``; None if it is done or no longer exists."""
    task = ref()
    return None if task is None or is_done(task) else task


def context_of(task: Any) -> Any:
    """Return the context of a task; None if it is a stand-in without one. From Python 3.12 on."""
    if _C_TASK is not None and issubclass(type(task), _C_TASK):
        return _C_TASK.get_context(task)  # type: ignore[attr-defined]  # one of Any's methods
    if is_task(task):
        return _attribute(task, "_context")
    get_context = getattr(task, "get_context", None)
    return None if get_context is None else get_context()


def name_of(task: Any) -> str | None:
    """Return the name of a task; None if unnamed: Python 3.13 names a task "None" that a factory made."""
    if _C_TASK is not None and issubclass(type(task), _C_TASK):
        name = _C_TASK.get_name(task)  # type: ignore[attr-defined]  # one of Any's methods
    else:
        name = _attribute(task, "_name")
    return name if type(name) is str and name != "None" else None


def callbacks(future: Any) -> list[Any]:
    """Return the callbacks for when ``future`` is done, if it is one of asyncio's."""
    return [callback for callback, _ in _callbacks(future) or ()] if is_future(future) else []


def ends_loop(future: Any) -> bool:
    """Whether the loop stops when ``future`` is done: if ``run_until_complete`` was given it."""
    return any(getattr(callback, "__qualname__", None) in _ENDS_LOOP for callback in callbacks(future))


def gathered(future: object) -> list[Any] | None:
    """Return the futures that this one gathers; None unless it was made by ``asyncio.gather``."""
    if _GATHERING is None or type(future) is not _GATHERING:
        return None
    children = getattr(future, "_children", None)
    return children if type(children) is list else None


def shielded(future: Any) -> Any | None:
    """Return the future that this one stands for, if it was made by ``asyncio.shield``."""
    return _from_callback(future, "shield.<locals>._outer_done_callback", "inner")


def in_executor(future: Any) -> bool:
    """Whether this future stands for one of ``concurrent.futures``: work in another thread or process."""
    source = _from_callback(future, "_chain_future.<locals>._call_check_cancel", "source")
    return type(source) is concurrent.futures.Future


def _from_callback(future: Any, qualname: str, variable: str) -> Any | None:
    """Return a closure variable of the callback of that name, a function within asyncio."""
    for callback in callbacks(future):
        if type(callback) is FunctionType and callback.__code__.co_qualname == qualname:
            for name, cell in zip(callback.__code__.co_freevars, callback.__closure__ or (), strict=False):
                if name == variable:
                    return cell.cell_contents
    return None


def cancelled_with(future: Any, known: set[int]) -> tuple[int, list[Any]]:
    """Return how many futures are cancelled with ``future``, in one recursion, and those of them at its ends.

    Itself included; without those whose ids are in ``known``, to which it adds these.
    """
    known.add(id(future))
    number, ends, waiting = 0, [], [future]
    while waiting:
        outer = waiting.pop()
        number += 1
        inner = [waiter_of(outer)] if is_task(outer) else gathered(outer) or ()
        pending = [each for each in inner if is_pending(each)]
        if not pending:
            ends.append(outer)
        for each in pending:
            if id(each) not in known:
                known.add(id(each))
                waiting.append(each)
    return number, ends
