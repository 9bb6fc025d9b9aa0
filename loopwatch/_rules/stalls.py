"""LW101, LW102, LW104 to LW110: loops that did not serve, by the measured cause of each stall."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from loopwatch._agent_records import Cause, Stall

from .remedies import relief, remedy, works_without_the_gil
from .roots import QUEUED, starved_for
from .rule import STAYS, Outline, Rule, Symptom, View
from .stall_groups import HELD, LONG, Group, by_culprit, by_loop, groups
from .words import period, place, span

COMPUTED = 0.1
"""Seconds of CPU time that would be a stall by themselves, by the default threshold."""
ONE_CALL = 0.25
"""Share of a stall for which other threads must have waited for the GIL to prove that one call took as long:
they wait only a few milliseconds, except during a call into C code that does not release the GIL."""
TOGETHER = 0.8
"""Share of stalls that computing and waiting for a CPU must explain together if neither does alone."""
FEW = 0.5
"""Share of the samples that may show a new callback if one function is to have computed most."""
MORE_CPU = "give it more CPU: fewer processes and threads beside it, or more cores"


def _because_of(cause: Cause) -> Callable[[Stall], Stall | None]:
    """Return a filter for the stalls of a cause, except imports: they happen once and have their own rule."""
    return lambda stall: stall if stall.cause == cause and _imported(stall) is None else None


def _imported(stall: Stall) -> Stall | None:
    importing = bool(stall.evidence.get("importing"))
    return stall if importing and stall.cause in ("cpu", "blocking", "unknown") else None


def _computed(stall: Stall) -> Stall | None:
    """Return the part of a stall that one function computed: without the part due to a lack of CPU.

    That part would be a stall even on an idle machine, and takes the CPU from others. If the loop slept for
    most of the stall, the culprit is the function that slept, which computed nothing.
    """
    if stall.cause not in ("starved", "unknown") or stall.culprit is None or stall.in_progress:
        whole = _because_of("cpu")(stall)
        return None if whole is None else _certain(whole)
    computed = stall.evidence.get("cpu_s", 0.0)
    one_callback = stall.evidence.get("samples_of_new_callbacks", 0.0) < FEW * stall.samples
    without_a_cpu = max(stall.evidence.get(name, 0.0) for name in ("runqueue_s", "throttled_s"))
    awake = computed + without_a_cpu >= HELD * stall.duration
    if computed >= COMPUTED and awake and one_callback and not stall.evidence.get("importing"):
        return replace(_certain(stall), duration=min(computed, stall.duration))
    return None


def _certain(stall: Stall) -> Stall:
    """Leave out the call if it may have been one of many short ones.

    Python code releases the GIL after calls of C functions, so Python code that makes such calls in a loop is
    nearly always sampled in one. They have no frame to tell how long a call took, or that it is another one.
    """
    late = stall.evidence.get("watchdog_late_s")
    if late is None or stall.stack[-1:] != (stall.culprit,) or works_without_the_gil(stall):
        return stall
    held = late - stall.evidence.get("watchdog_runqueue_s", 0.0) - stall.evidence.get("gc_s", 0.0)
    return stall if held >= ONE_CALL * stall.duration else replace(stall, call=None)


def starved(stall: Stall) -> Stall | None:
    """Return a stall due to a lack of CPU, including a collection that was long only for that reason."""
    queued = stall.evidence.get("runqueue_s", 0.0) >= HELD * stall.duration
    return stall if stall.cause == "starved" or (stall.cause == "gc" and queued) else None


def _who(stall: Stall) -> str:
    """Return the call and the function, as users know them."""
    if stall.culprit is None:
        return "code that was not seen"
    call = f"`{stall.call}` in " if stall.call else ""
    return f"{call}{place(stall.culprit)}"


def loop_of(name: str) -> str:
    """Name a loop in a sentence: most programs have only one."""
    return "the event loop" if name == "main" else f"the event loop {name!r}"


def _computing(view: View) -> Iterator[Outline]:
    for group in groups(view, by_culprit, _computed):
        yield group.outline("LW101", _blocked)


def _blocked(group: Group) -> Symptom:
    fix = relief(group.last, group.held_the_gil)
    return _held_up(group, "LW101", f"blocked {loop_of(group.last.loop_name)}", fix)


def _waiting(view: View) -> Iterator[Outline]:
    for group in groups(view, by_culprit, _because_of("blocking")):
        yield group.outline("LW102", _made_wait)


def _made_wait(group: Group) -> Symptom:
    fix = (
        "call it in a process pool: a thread does not help, it waits without letting go of the GIL"
        if group.held_the_gil
        else remedy(group.last)
    )
    return _held_up(group, "LW102", f"made {loop_of(group.last.loop_name)} wait", fix)


def _held_up(group: Group, rule: str, what: str, fix: str) -> Symptom:
    """Make the symptom of code that kept its loop from serving."""
    how = ", while holding the GIL" if group.held_the_gil else ""
    return group.symptom(rule, f"{_who(group.last)} {what} {group.how_often}{how}", fix)


def _flooded(view: View) -> Iterator[Symptom]:
    for group in groups(view, by_loop, _because_of("flood")):
        ready = max(stall.evidence.get("ready_callbacks", 0.0) for stall in group.stalls)
        at_once = f", up to {ready:.0f} ready at once" if ready else ""
        seen = f"; seen most: {place(group.last.culprit)}" if group.last.culprit else ""
        symptom = group.symptom(
            "LW104",
            f"a flood of short callbacks{at_once} kept {loop_of(group.last.loop_name)} from all else "
            f"{group.how_often}{seen}",
            fix="limit how many become ready at once: an asyncio.Semaphore around what they do, a queue with "
            "a few workers, or batches with `await asyncio.sleep(0)` between them",
        )
        yield replace(symptom, evidence={**symptom.evidence, "ready_callbacks": ready}) if ready else symptom


def _gil(view: View) -> Iterator[Outline]:
    for group in groups(view, by_culprit, _because_of("gil")):
        yield group.outline("LW106", _held_the_gil)


def _held_the_gil(group: Group) -> Symptom:
    return group.symptom(
        "LW106",
        f"{_who(group.last)}, in another thread, held the GIL, and kept "
        f"{loop_of(group.last.loop_name)} from running {group.how_often}",
        fix="move it to a process pool: in a thread it stops the loop all the same",
    )


def _starved(view: View) -> Iterator[Symptom]:
    short = starved_for(view, STAYS * QUEUED)
    told = set()
    for group in groups(view, by_loop, starved):
        if not group.told and group.key[0] in short:
            continue  # the stronger statement
        told.add(group.key)
        throttled = group.sum("throttled_s") >= HELD * group.total
        yield group.symptom(
            "LW107",
            f"{loop_of(group.last.loop_name)} was ready but had no CPU {group.how_often}{_quota(throttled)}",
            fix=_more_cpu(throttled),
        )
    enough = starved_for(view)
    stalls = {group.key: group.sum("runqueue_s") for group in groups(view, by_loop, lambda stall: stall)}
    for name, seconds in short.items():
        if (name,) not in told:
            stalled = stalls.get((name,), 0.0) >= HELD * seconds  # as part of what made the stalls so long
            where = "most of it in stalls" if stalled else "in pieces too short to be stalls"
            yield Symptom(
                rule="LW107",
                key=(name,),
                severity="warning",
                faint=name not in enough,
                summary=f"{loop_of(name)} was ready but had no CPU for {span(seconds)} "
                f"{period(view.seconds)}, {where}",
                evidence={"runqueue_s": round(seconds, 3), "window_s": round(view.seconds, 3)},
                fix=MORE_CPU if stalled else _more_cpu(throttled=False),
            )


def _quota(throttled: bool) -> str:
    return ": the CPU quota of its container was used up" if throttled else ""


def _more_cpu(throttled: bool) -> str:
    more = (
        "raise the CPU limit of the container, or run fewer threads and processes in it"
        if throttled
        else MORE_CPU
    )
    return f"{more}; the code that ran at the time is not at fault"


def _suspended(view: View) -> Iterator[Symptom]:
    # All loops were stopped and show the same: name the worst of those with enough evidence.
    stopped = groups(view, by_loop, _because_of("suspended"))
    for group in sorted(stopped, key=lambda group: not group.told)[:1]:
        symptom = group.symptom(
            "LW108",
            f"the whole process was stopped {group.how_often}",
            fix="nothing in the program: look for a paused container or virtual machine, a SIGSTOP, a "
            "debugger, a checkpoint, or a machine that slept",
        )
        yield replace(symptom, key=(), severity="warning", holds="info")


def _unexplained(view: View) -> Iterator[Symptom]:
    for group in groups(view, by_loop, _unknown):
        computed, queued = group.sum("cpu_s"), group.sum("runqueue_s")
        if computed + queued >= TOGETHER * group.total:
            why = (
                f"it computed for {span(computed)} of that and had no CPU for {span(queued)}: "
                "neither alone explains it"
            )
            fix = (
                "give it more CPU, or compute less in the loop: the machine is too busy for what it does; "
                "agent.stalls() says where that was"
            )
        else:
            why = "the numbers do not say why: nothing explains most of the time"
            fix = "read stack and evidence in agent.stalls(); who stood there is not to be blamed for it"
        symptom = group.symptom(
            "LW109", f"{loop_of(group.last.loop_name)} did not serve {group.how_often}; {why}", fix
        )
        yield replace(
            symptom,
            severity="warning" if group.bad else "info",
            holds="warning" if group.nearly_bad else "info",
        )


def _unknown(stall: Stall) -> Stall | None:
    told = stall.in_progress or _computed(stall) is not None
    return None if told else _because_of("unknown")(stall)


def _importing(view: View) -> Iterator[Symptom]:
    for group in groups(view, by_loop, _imported):
        if group.total < STAYS * LONG:
            continue  # some libraries keep importing small modules
        worst = max(group.stalls, key=lambda stall: stall.duration)
        symptom = group.symptom(
            "LW110",
            f"imports blocked {loop_of(worst.loop_name)} {group.how_often}: {_who(worst)}",
            fix="import at the top of the module, before the loop runs: else the first request waits for it",
        )
        yield replace(symptom, severity="info", holds="info", faint=group.total < LONG)


STALLS: tuple[Rule, ...] = (  # one look each: the window is a minute long, and a stall is proof
    Rule("LW101", "Computation in the event loop", "critical", _computing, looks=1),
    Rule("LW102", "Blocking call in the event loop", "critical", _waiting, looks=1),
    Rule("LW104", "Flood of callbacks", "critical", _flooded, looks=1),
    Rule("LW106", "GIL held by another thread", "critical", _gil, looks=1),
    Rule("LW107", "Starved of CPU", "critical", _starved, looks=1),
    Rule("LW108", "Suspended process", "warning", _suspended, looks=1),
    Rule("LW109", "Stalls without a known cause", "warning", _unexplained, looks=1),
    Rule("LW110", "Imports in the event loop", "info", _importing, looks=1),
)
