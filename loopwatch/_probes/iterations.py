"""Probe of loops with a selector: exact idle time, iterations, and the bounds of every step.

The loop calls ``select`` once per iteration; what lies between two calls is one step. Wrapping ``select`` on
the loop's own selector sees all callbacks, including I/O, at one clock read per busy iteration.
``call_soon`` wrappers miss I/O callbacks and count timers twice; uvloop never uses ``Handle._run``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loopwatch._internals.base_loop import Selector, shadowed
from loopwatch._store.loop_state import LoopState


@dataclass(frozen=True, slots=True)
class _Ends:
    """What to do when a step or a wait ends and a heartbeat is due: some twenty times a second."""

    state: LoopState
    threshold: float
    fall_due: Callable[[float, float], bool]

    def of_step(self, now: float) -> bool:
        """Record the step if it was a stall; return whether a beat is to run in this iteration."""
        if now - self.state.busy_since > self.threshold:
            self.state.end_stall(self.state.busy_since, now, True)
        return self.fall_due(now, self.state.beat_due)

    def of_wait(self, began: float, due: float, woke: float) -> None:
        """Record the wait if it ended far too late: its timeout was short, so the cause was the GIL, the run
        queue or a suspended process. The excess does not count as idle: the loop had work to do."""
        late = woke - due > self.threshold
        if late:
            self.state.end_stall(due, woke, False)
        self.state.idle_time += (due if late else woke) - began
        self.fall_due(woke, min(due, woke))


def _keeping(
    state: LoopState,
    inner: Callable[[float | None], Any],
    monotonic: Callable[[], float],
    end_step: Callable[[float], bool],
    end_wait: Callable[[float, float, float], None],
) -> Any:
    """Wrap ``inner``, a ``select``, so that it updates ``state``.

    The wrapper times the heartbeat too, by letting no wait last beyond the next beat: a timer in the loop's
    heap would cost each iteration a look at the heap and each wait the computation of its timeout.

    The budget is 10 % of the instructions of an empty iteration, hence one comparison for everything rare,
    and no guard: nothing between the clock reads can raise but a KeyboardInterrupt, which is the user's. No
    stall escapes that comparison, since a beat falls due within the length of any stall.
    """

    @functools.wraps(inner)
    def select(timeout: float | None = None) -> Any:
        state.iterations += 1.0
        now = monotonic()
        if now >= state.beat_due and end_step(now):
            timeout = 0
        if timeout or timeout is None:
            left = state.wait_until - now
            if timeout is None or timeout > left:
                timeout = left
            state.waiting_since = now
            state.busy_since = due = now + timeout
            events = inner(timeout)
            woke = monotonic()
            state.waiting_since = 0.0
            state.busy_since = woke
            if woke >= state.beat_due:
                end_wait(now, due, woke)
            else:
                state.idle_time += woke - now
            return events
        state.busy_since = now
        return inner(timeout)

    return select


def watch_iterations(
    selector: Selector,
    state: LoopState,
    threshold: float,
    monotonic: Callable[[], float],
    fall_due: Callable[[float, float], bool],
) -> Callable[[], None]:
    """Wrap ``selector.select`` so that it updates ``state``; return a function that removes the wrapper.

    ``fall_due`` is called when a heartbeat is due, with the current time and the time since which the loop
    owes it, and returns whether the loop is going to beat.
    """
    shadows = shadowed(selector, "select")  # somebody else's wrapper, already on the instance
    ends = _Ends(state, threshold, fall_due)
    select: Any = _keeping(state, selector.select, monotonic, ends.of_step, ends.of_wait)
    selector.select = select
    # Held weakly: these hold callbacks that hold the loop, and a loop left unclosed must be collectable.
    holder, ours = weakref.ref(selector), weakref.ref(select)

    def unwrap() -> None:
        selector, select = holder(), ours()
        if selector is None or select is None:
            return
        if selector.select is not select:
            return  # somebody wrapped ours: it stays below theirs, writing to a state nobody reads
        if shadows:
            selector.select = select.__wrapped__  # type: ignore[attr-defined]
        else:
            del selector.select

    return unwrap
