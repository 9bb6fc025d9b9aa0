"""LW103 and LW105: a loop that has too much to do, and one that waits for the garbage collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loopwatch._agent_records import Stall
from loopwatch._measures import Distribution

from .roots import OF_STALLS, blocked_by, starved_for
from .rule import STAYS, WINDOW, Rule, Symptom, View
from .stall_groups import BAD, Group, by_loop, groups
from .stalls import loop_of, starved
from .words import period, span, times

SATURATED = 0.9
"""Busy share above which each bit of further work makes callbacks wait much longer."""
FULL = 0.98
"""Busy share at which no more work fits in..."""
SLOW = 0.5
"""...and the delay (p99) that users notice, in seconds."""
RELIEVED, NEARLY_FULL = 0.85, 0.95
"""Busy shares down to which a loop still counts as saturated, and as full."""
ENOUGH = 30.0
"""Seconds for which a loop must have been watched: every loop is busy at its start."""
COLLECTING = 0.05
"""Share of the time in garbage collection from which it is too much, even if it does not stall the loop."""


def _saturated(view: View) -> Iterator[Symptom]:
    times_spent = view.increases("loop_time")
    delays = view.distributions("delay")
    computed = view.increases("cpu_time")
    for name in sorted({name for name, _ in times_spent}):
        active, idle = times_spent.get((name, "active"), 0.0), times_spent.get((name, "idle"), 0.0)
        if active + idle < ENOUGH or active < RELIEVED * (active + idle):
            continue
        utilization = active / (active + idle)
        without_a_cpu = starved_for(view).get(name, 0.0)
        only_starved = active - without_a_cpu < SATURATED * (active + idle)
        delay = (delays[name,].quantile(0.99) if (name,) in delays else None) or 0.0
        yield Symptom(
            rule="LW103",
            key=(name,),
            severity="critical" if utilization >= FULL and delay >= SLOW else "warning",
            holds="critical" if utilization >= NEARLY_FULL and delay >= STAYS * SLOW else "warning",
            faint=utilization < SATURATED,
            summary=f"{loop_of(name)} was busy for {utilization:.0%} of the time {period(active + idle)}: "
            f"a callback that is due waits up to {span(delay)} (p99)",
            evidence={
                "utilization": round(utilization, 4),
                "active_s": round(active, 3),
                "delay_p99_s": round(delay, 4),
                "cpu_s": round(computed.get((name,), 0.0), 3),
                "window_s": round(active + idle, 3),
            },
            fix="give it less to do: more worker processes, heavy work in a process pool, fewer requests at "
            "once; agent.tasks() and a profile show what there is most of",
            because=OF_STALLS["starved"]
            if without_a_cpu and only_starved
            else blocked_by(view, min(view.seconds, WINDOW), name),
        )


def _collecting(view: View) -> Iterator[Symptom]:
    """Collections stop all loops alike, so only the loop that lost most is named."""
    stalls = {group.key: group for group in groups(view, by_loop, _by_itself)}
    pauses = view.distributions("gc_pause")
    names = {name for name, _ in pauses} | {name for (name,) in stalls}
    without_a_cpu = starved_for(view)  # a lack of CPU prolongs pauses: that part is not the collector's
    lost = {name: max(0.0, _paused(pauses, name) - without_a_cpu.get(name, 0.0)) for name in names}
    if not lost:
        return
    # Loops that run for as long lose as much: of these, name the one with most to report.
    told = {name for (name,), group in stalls.items() if group.told}
    name = max(lost, key=lambda name: (lost[name], name in told, (name,) in stalls))
    group, share = stalls.get((name,)), lost[name] / max(view.seconds, ENOUGH)
    if share < STAYS * COLLECTING and (group is None or name in without_a_cpu):
        return
    enough = share >= COLLECTING or (name in told and name not in without_a_cpu)
    runs = sum(found.count for (of, _), found in pauses.items() if of == name)
    full = sum(found.count for (of, generation), found in pauses.items() if of == name and generation == "2")
    yield Symptom(
        rule="LW105",
        key=(),
        severity="critical" if share >= BAD or (group is not None and group.bad) else "warning",
        holds="critical" if share >= STAYS * BAD or (group is not None and group.nearly_bad) else "warning",
        faint=not enough,
        summary=f"garbage collection {_how(group)}took {share:.0%} of the time {period(view.seconds)}: "
        f"{runs} collections, {full} of them full, {span(lost[name])} in all",
        evidence={
            "gc_s": round(lost[name], 3),
            "collections": runs,
            "full_collections": full,
            "window_s": round(view.seconds, 3),
            **({"stalls": group.count, "worst_s": round(group.worst, 3)} if group else {}),
        },
        fix="call gc.freeze() once all is loaded, raise the first number of gc.set_threshold(), and keep "
        "fewer objects for long: a full collection looks at each of them",
        count=group.count if group else runs,
    )


def _by_itself(stall: Stall) -> Stall | None:
    return stall if stall.cause == "gc" and starved(stall) is None else None


def _paused(pauses: Mapping[tuple[str, ...], Distribution], name: str) -> float:
    return sum(found.sum for (of, _), found in pauses.items() if of == name)


def _how(group: Group | None) -> str:
    if group is None:
        return ""
    return f"stopped the event loop {times(group.count)}, worst {span(group.worst)}, and "


LOOP: tuple[Rule, ...] = (
    Rule("LW103", "Saturated event loop", "critical", _saturated),
    Rule("LW105", "Garbage collection pauses", "critical", _collecting, looks=1),
)
