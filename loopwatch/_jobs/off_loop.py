"""Runs work that is too long for the event loop, or not ours, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from loopwatch._threads import start

T = TypeVar("T")


async def off_loop(make: Callable[[], T], patience: float | None = None) -> T | None:
    """Return what ``make`` returns; None if it takes longer than ``patience`` seconds.

    The loop's default executor will not do: it may be full of work that the program's tasks wait for.
    """
    loop = asyncio.get_running_loop()
    made: asyncio.Future[T] = loop.create_future()

    def keep(result: T | None, error: BaseException | None) -> None:
        if made.done():
            return
        if error is None:
            made.set_result(result)  # type: ignore[arg-type]
        else:
            made.set_exception(error)

    def work() -> None:
        result, problem = None, None
        try:
            result = make()
        except Exception as error:  # noqa: BLE001 - raised where the result is awaited
            problem = error
        try:
            loop.call_soon_threadsafe(keep, result, problem)
        except RuntimeError:
            return  # the loop was closed, so nobody waits any more

    thread = start("loopwatch-drain", work)
    await asyncio.wait((made,), timeout=patience)
    if not made.done():
        made.cancel()
        return None
    thread.join()  # it has nothing left to do
    return made.result()
