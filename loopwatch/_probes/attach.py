"""Finds every loop: they all pass through ``run_forever``, whatever created or started them.

A loop is attached in its own thread before its first iteration.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any, Protocol

from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._internals.base_loop import RUN_FOREVER, overridden, selector
from loopwatch._internals.interpreter import runner
from loopwatch._internals.thread_clock import own_cpu_clock
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._store.loop_state import LoopState, LoopStates

from .heartbeat import Heartbeat
from .iterations import watch_iterations
from .loop_classes import LoopClasses
from .tasks import TaskProbe, let_go, wrap_create_task, wrap_exception_handler


@dataclass(slots=True)
class _Probes:
    """What is attached to one loop."""

    state: LoopState
    heartbeat: Heartbeat
    unwrap_select: Callable[[], None] | None
    tasks: TaskProbe


class Host(Protocol):
    """Is notified of the life of the loops, in the thread of each."""

    def before_run(self) -> None:
        """Prepare, before a loop begins to run."""

    def loop_runs(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that ``loop`` is attached and about to run."""

    def loop_beats(self) -> None:
        """Check whatever may need it now and then: called at each heartbeat."""

    def loop_left(self) -> None:
        """Note that a loop has ended its run."""

    def task_fell(self) -> None:
        """Note that a lost task waits to be reported: in any thread, and maybe while no loop runs."""


class Attach:
    """Attaches probes to every loop that runs, and detaches them again."""

    def __init__(
        self,
        states: LoopStates,
        settings: Settings,
        contexts: ContextReader,
        clock: Clock,
        journal: Journal,
        host: Host,
    ) -> None:
        self._states = states
        self._threshold = settings.stall_threshold
        self._keep_tasks = settings.keep_tasks
        self._clock = clock
        self._journal = journal
        self._contexts = contexts
        self._host = host
        self._active = False
        self._classes = LoopClasses(
            {
                "run_forever": functools.partial(_wrap, self),
                "create_task": functools.partial(wrap_create_task, self.tasks_of, clock.monotonic, journal),
                "call_exception_handler": functools.partial(wrap_exception_handler, journal),
            },
            journal,
        )
        self._attached: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Probes] = (
            weakref.WeakKeyDictionary()
        )
        self.unwatched: Counter[str] = Counter()
        """Loops left alone, by reason. Each is counted at its first run."""
        self._refused: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    def install(self) -> None:
        """Wrap the loop classes; from now on loops are attached as they start."""
        self._active = True
        self._classes.wrap()

    def remove(self) -> None:
        """Restore every method where ours is still on top, and take the probes off all loops."""
        self._active = False
        self._classes.unwrap()
        for loop, probes in list(self._attached.items()):
            self._take_off(loop, probes)
        self._attached.clear()

    def forget(self) -> None:
        """Drop all loops: in a forked child they belong to the parent's threads.

        Only ``select`` is restored, or a loop that runs again in the child would be wrapped twice.
        """
        for probes in list(self._attached.values()):
            if probes.unwrap_select is not None:
                probes.unwrap_select()
        self._attached.clear()
        self._refused.clear()
        self.unwatched.clear()

    def watch(self, loop: asyncio.AbstractEventLoop, by_loop: bool = False) -> None:
        """Attach to a loop that already runs in the calling thread, or whose class is not wrapped.

        ``by_loop`` says that the loop makes this call, as one of its callbacks.
        """
        probes = self.entering(loop)
        if probes is not None:
            probes.state.leaves_unseen = True
            probes.state.boundary = runner(RUN_FOREVER, by_loop)
            probes.tasks.adopt_all(loop)

    def tasks_of(self, loop: asyncio.AbstractEventLoop) -> TaskProbe | None:
        """Return the task probe of a loop that does not carry one yet: it creates tasks before it runs."""
        if not self._active:
            return None
        try:
            probes = self._attached_to(loop)
        except Exception as error:  # noqa: BLE001 - the task is created whatever happens to us
            self._journal.failure("attach", error)
            return None
        return None if probes is None else probes.tasks

    def own_timers(self, loop: asyncio.AbstractEventLoop) -> int:
        """Return how many of the loop's timers are ours."""
        probes = self._attached.get(loop)
        return 1 if probes is not None and probes.heartbeat.scheduled else 0

    def entering(self, loop: asyncio.AbstractEventLoop) -> _Probes | None:
        """Attach as ``loop`` enters ``run_forever``; None if it is not watched. Never raises."""
        if not self._active:
            return None
        try:
            return self._enter(loop)
        except Exception as error:  # noqa: BLE001 - the user's loop must start whatever happens to us
            self._journal.failure("attach", error)
            return self._attached.get(loop)  # it may have got far enough to need ``leaving``

    def leaving(self, probes: _Probes) -> None:
        """Close the accounts as the loop leaves ``run_forever``. Never raises."""
        try:
            self._leave(probes)
        except Exception as error:  # noqa: BLE001 - as above
            self._journal.failure("attach", error)
        self._host.loop_left()

    def _enter(self, loop: asyncio.AbstractEventLoop) -> _Probes | None:
        is_new = loop not in self._attached  # if so, none of its tasks has been recorded yet
        probes = self._attached_to(loop)
        if probes is None:
            return None
        if is_new:
            probes.tasks.adopt_all(loop)
        state = probes.state
        if state.running and loop.is_running():
            return None  # run again from within: the outer run is the one to leave
        if state.running:
            self._leave(probes)  # it was attached in mid-run, so the end of that run was not seen
        self._host.before_run()  # however long it takes, none of that is the loop's time
        now = self._clock.monotonic()
        state.thread_id = threading.get_ident()
        state.native_id = threading.get_native_id()  # in a forked child, the Thread object has the parent's
        state.cpu_clock = own_cpu_clock()
        state.boundary = BOUNDARY
        state.enter(now, self._clock.thread_cpu())
        probes.heartbeat.start(now)
        self._host.loop_runs(loop)
        return probes

    def _leave(self, probes: _Probes) -> None:
        state = probes.state
        probes.heartbeat.stop()
        now = self._clock.monotonic()
        slack = 0.0 if state.has_selector else state.beat_interval  # as in the heartbeat
        if state.blocked(now) > self._threshold - slack:  # after the last step select is not called again
            state.end_stall(state.busy_since, now, True)
        state.leave(now, self._clock.thread_cpu())

    def _attached_to(self, loop: asyncio.AbstractEventLoop) -> _Probes | None:
        """Return what is attached to ``loop``, attaching it first if it can be watched."""
        probes = self._attached.get(loop)
        if probes is None and (probes := self._attach(loop)) is not None:
            self._attached[loop] = probes
            loop._loopwatch_tasks = probes.tasks  # type: ignore[attr-defined]
        return probes

    def _attach(self, loop: asyncio.AbstractEventLoop) -> _Probes | None:
        if loop in self._refused:
            return None
        if getattr(loop, "_loopwatch_own", False):
            self._refused.add(loop)
            return None
        base, kind = self._classes.of(loop)
        method = overridden(loop, base) if base is not None else None
        if method is not None:
            self._refuse(loop, f"own_{method.lstrip('_')}")
            return None
        found = selector(loop) if kind == "asyncio" else None
        state = self._states.claim(loop, kind, has_selector=found is not None)
        if state is None:
            self._refuse(loop, "too_many")
            return None
        heartbeat = Heartbeat(loop, state, self._threshold, self._clock, self._journal, self._host.loop_beats)
        unwrap = (
            watch_iterations(found, state, self._threshold, self._clock.monotonic, heartbeat.fall_due)
            if found
            else None
        )
        tasks = TaskProbe(
            state.tasks,
            self._contexts,
            self._clock,
            self._journal,
            keep=self._keep_tasks,
            fell=self._host.task_fell,
        )
        return _Probes(state, heartbeat, unwrap, tasks)

    def _refuse(self, loop: asyncio.AbstractEventLoop, reason: str) -> None:
        self._refused.add(loop)
        self.unwatched[reason] += 1

    def _take_off(self, loop: asyncio.AbstractEventLoop, probes: _Probes) -> None:
        if probes.unwrap_select is not None:
            probes.unwrap_select()
        if getattr(loop, "_loopwatch_tasks", None) is probes.tasks:
            del loop._loopwatch_tasks  # type: ignore[attr-defined]
            let_go(loop)
        if not probes.state.running:
            return
        if probes.state.thread_id == threading.get_ident():
            self.leaving(probes)
            return
        try:
            loop.call_soon_threadsafe(self.leaving, probes)  # only the loop's thread may cancel its timers
        except RuntimeError:
            return  # the loop has been closed meanwhile, and its timers with it


def _wrap(attach: Attach, original: Callable[[Any], None]) -> Any:
    """Wrap ``original`` so that it attaches. This is the one frame of ours that user tracebacks can show."""

    @functools.wraps(original)
    def run_forever(self: asyncio.AbstractEventLoop) -> None:
        probes = attach.entering(self)
        try:
            original(self)
        finally:
            if probes is not None:
                attach.leaving(probes)

    return run_forever


BOUNDARY: CodeType = next(
    # Found by name: since Python 3.14 the wrapper's annotations are a code object, too.
    const
    for const in _wrap.__code__.co_consts
    if isinstance(const, CodeType) and const.co_name == "run_forever"
)
"""Code of the wrapper: from its frame inwards a stack shows what the loop runs."""
