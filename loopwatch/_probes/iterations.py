"""Probe of loops with a selector: exact idle time, iterations, and the bounds of every step.

The loop calls ``select`` once per iteration; what lies between two calls is one step. Wrapping ``select`` on
the loop's own selector sees all callbacks, I/O ones included, at one clock read per busy iteration.
``call_soon`` wrappers miss I/O callbacks and count timers twice; ``Handle._run`` is never used by uvloop.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from loopwatch._internals.base_loop import Selector, shadowed
from loopwatch._store.loop_state import NEVER, LoopState


def watch_iterations(
    selector: Selector, state: LoopState, threshold: float, monotonic: Callable[[], float]
) -> Callable[[], None]:
    """Wrap ``selector.select`` so that it keeps ``state``; return a function that takes the wrapper off.

    The budget is 10 % of the instructions of an empty iteration, hence one function, no call to a method
    and no guard: nothing between the clock reads can raise but a KeyboardInterrupt, which is the user's.
    """
    inner = selector.select
    shadows = shadowed(selector, "select")  # somebody else's, on the instance already

    @functools.wraps(inner)
    def select(timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            events = inner(timeout)
            now = monotonic()
            if now - state.busy_since > threshold:
                state.end_stall(state.busy_since, now, True)
            state.busy_since = now
            state.iterations += 1
            return events
        now = monotonic()
        if now - state.busy_since > threshold:
            state.end_stall(state.busy_since, now, True)
        state.waiting_since = now
        due = NEVER if timeout is None else now + timeout
        state.busy_since = due
        events = inner(timeout)
        woke = monotonic()
        if woke - due > threshold:
            # The heartbeat keeps every timeout short, so this is no long wait but a late wake-up: the GIL,
            # the run queue or a suspended process. Its excess was not idle: the loop was wanted.
            state.end_stall(due, woke, False)
            state.idle_time += due - now
        else:
            state.idle_time += woke - now
        state.waiting_since = 0.0
        state.busy_since = woke
        state.iterations += 1
        return events

    selector.select = select
    # Held weakly, since it holds callbacks that hold the loop: a loop left unclosed has to be collected.
    holder, ours = weakref.ref(selector), weakref.ref(select)

    def unwrap() -> None:
        selector, select = holder(), ours()
        if selector is None or select is None:
            return
        if selector.select is not select:
            return  # somebody wrapped ours: it stays below theirs, writing to a state nobody reads
        if shadows:
            selector.select = select.__wrapped__
        else:
            del selector.select

    return unwrap
