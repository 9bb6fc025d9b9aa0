"""Commands about tasks: which there are, where a task stands, what tasks wait for, and which are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from loopwatch._agent_records import Lost, LostReason
from loopwatch._records import Task
from loopwatch._words import ago, number, own_frame, place, span

from .command import Command, Question, WrongUseError
from .options import Options, number_of, options, short, values_of
from .parts import evidence, field, heading, more, stack_lines, whose
from .tables import Table, columns
from .tree import TREE_LINES, awaiting_lines, creating_lines

LOOKED_AT = 10_000
"""Live tasks that a command looks at: that takes a fifth of a second or more, holding the GIL for part of it,
and makes as many records, which may trigger a garbage collection."""
FIRST = 1_000
"""Oldest live tasks, looked at where these are enough."""

_STATES = {
    "state": ("live", "ended", "error", "cancelled", "ok", "any"),
    "sort": ("age", "new", "name", "coroutine", "site", "waiting"),
    "by": ("task", "site", "coroutine", "waiting"),
}
_REASONS = {"reason": ("any", *get_args(LostReason))}
_TREES = {"of": ("awaits", "creators")}


def _tasks(question: Question) -> Iterator[str]:
    words = options(question.words, _STATES)
    simple = not words.filters and (words.chosen["sort"], words.chosen["by"]) == ("age", "task")
    looked_at = FIRST if simple else LOOKED_AT
    tasks = question.source.tasks(looked_at)
    found = [task for task in tasks if _is(task, words.chosen["state"]) and _keeps(words, task)]
    if not found:
        yield "No task is like that." if tasks else "No task has been seen yet."
        return
    if words.chosen["by"] != "task":
        yield from _groups(question, found, words)
        return
    found.sort(key=_ORDERS[words.chosen["sort"]])
    table = Table(
        columns(
            "=#", "state", "=age", "=ran", ">name", "<coroutine", ">waits for", "<~stands at", "<~created by"
        )
    )
    for task in found[: words.limit]:
        stands = own_frame(task.await_stack, task.site)
        table.add(
            str(question.desk.numbers.of("task", task.id)),
            _state(task),
            span(task.age),
            "" if task.duration is None else span(task.duration),
            task.name or "-",
            task.coroutine,
            task.waiting_on or task.exception or "",
            place(stands) if stands else "",
            task.site.function,
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(found), "tasks")
    if sum(task.state == "pending" for task in tasks) >= looked_at:
        yield f"Only the {number(looked_at)} oldest live tasks were looked at."


def _groups(question: Question, tasks: Sequence[Task], words: Options) -> Iterator[str]:
    """Yield groups of similar tasks with their numbers, largest first."""
    by = words.chosen["by"]
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(_GROUPS[by](task), []).append(task)
    table = Table(columns("=tasks", "=oldest", "=newest", "=e.g. #", f"<{_HEADINGS[by]}", "<coroutine"))
    for key, members in sorted(groups.items(), key=lambda group: -len(group[1]))[: words.limit]:
        oldest = max(members, key=lambda task: task.age)
        kinds = Counter(task.coroutine for task in members)
        further = f" and {len(kinds) - 1} more" if len(kinds) > 1 else ""
        table.add(
            number(len(members)),
            span(oldest.age),
            span(min(task.age for task in members)),
            str(question.desk.numbers.of("task", oldest.id)),
            key,
            "" if by == "coroutine" else f"{kinds.most_common(1)[0][0]}{further}",
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(groups), "groups")


def _task(question: Question) -> Iterator[str]:
    task, tasks = _asked_for(question)
    width = question.width
    shown = question.desk.numbers.of("task", task.id)
    yield heading(f"task {shown}: {task.name or '(no name)'}, {_state(task)}, {span(task.age)} old", width)
    yield from field("coroutine", task.coroutine, width)
    yield from field("created by", f"{task.site.name} at {place(task.site)}", width)
    yield from field("in task of", task.parent or "none: outside of tasks", width)
    yield from field("began", ago(task.started_at, question.desk.clock.wall()), width)
    if task.duration is not None:
        yield from field("ran for", span(task.duration), width)
    unasked = ", which nobody has asked for" if task.unretrieved else ""
    yield from field("exception", f"{task.exception}{unasked}" if task.exception else None, width)
    yield from field("loop", task.loop_name, width)
    yield from field("is", ", ".join(_kinds(task)), width)
    yield from field("context", whose(task), width)
    if task.state == "pending":
        yield from field("waits for", task.waiting_on or "nothing: it runs, or is ready to", width)
    yield from field(
        "awaits", _named(question, tasks, [other for other in tasks if other.id in task.awaits]), width
    )
    yield from field(
        "awaited by", _named(question, tasks, [other for other in tasks if task.id in other.awaits]), width
    )
    if task.await_stack:
        yield "  await chain"
        yield from stack_lines(task.await_stack, own_frame(task.await_stack, task.site), width, whole=True)


def _asked_for(question: Question) -> tuple[Task, Sequence[Task]]:
    """Return the task with the given number, or the only one of that name; and all tasks."""
    if len(question.words) != 1:
        raise WrongUseError("Which one? task N, with a number that `tasks` shows, or the name of a task.")
    word = question.words[0]
    for looked_at in (FIRST, LOOKED_AT):
        tasks = question.source.tasks(looked_at)
        found = _called(question, word, tasks)
        if found is not None:
            return found, tasks
        if sum(task.state == "pending" for task in tasks) < looked_at:
            break
    if not word.isdecimal():
        raise WrongUseError(
            f"No task is called {short(word)}, or it has ended. `tasks` lists those there are."
        )
    if question.desk.numbers.key("task", number_of(word, "task")) is None:
        raise WrongUseError(f"No task {word} has been shown. `tasks` lists them.")
    raise WrongUseError(f"Task {word} has ended, and so many others since that it is no longer known.")


def _called(question: Question, word: str, tasks: Sequence[Task]) -> Task | None:
    """Return the one of ``tasks`` that has the name ``word`` or, if there is none, that number."""
    named = [task for task in tasks if task.name == word]
    if len(named) > 1:
        raise WrongUseError(
            f"{len(named)} tasks are called that. `tasks state=any {word}` tells their numbers."
        )
    key = question.desk.numbers.key("task", int(word)) if word.isascii() and word.isdigit() else None
    return named[0] if named else next((task for task in tasks if task.id == key), None)


def _named(question: Question, tasks: Sequence[Task], some: Sequence[Task]) -> str:
    of = question.desk.numbers.of
    said = [f"#{of('task', task.id)} {task.name or task.coroutine}" for task in some[:8]]
    return ", ".join([*said, f"and {len(some) - 8} more"] if len(some) > 8 else said)


def _tree(question: Question) -> Iterator[str]:
    words = options(question.words, _TREES, TREE_LINES)
    tasks = [task for task in question.source.tasks(LOOKED_AT) if task.state == "pending"]
    if words.chosen["of"] == "creators":
        yield from creating_lines(tasks, words, question)
    else:
        yield from awaiting_lines(tasks, words, question)


def _waits(question: Question) -> Iterator[str]:
    words = options(question.words)
    found = [
        one
        for one in question.source.waits(LOOKED_AT)
        if words.keeps(one.primitive, one.site.name, *one.tasks, *one.owners)
    ]
    if not found:
        yield "No task waits for a lock, semaphore, condition, event or queue" + (
            " like that." if words.filters else "."
        )
        return
    for one in found[: words.limit]:
        objects = "" if one.objects <= 1 else f", {number(one.objects)} of them"
        where = f"{one.site.name} ({place(one.site)})"
        yield heading(f"{number(one.count):>5} wait in {one.primitive}{objects}, at {where}", question.width)
        tasks = [
            *one.tasks,
            *([f"and {number(one.count - len(one.tasks))} more"] if one.count > len(one.tasks) else []),
        ]
        yield from field("held by", ", ".join(one.owners), question.width)
        yield from field("waiting", ", ".join(tasks), question.width)
    yield from more(words.limit, len(found), "places")


def _leaks(question: Question) -> Iterator[str]:
    if question.words and question.words[0].isdigit():
        yield from _leak(question)
        return
    words = options(question.words, _REASONS)
    reason = words.chosen["reason"]
    everything = question.source.lost()
    found = [
        lost
        for lost in reversed(everything)
        if reason in ("any", lost.reason)
        and words.keeps(
            lost.coroutine, lost.site.name, lost.exception, lost.task_name, lost.leak, whose(lost)
        )
    ]
    if not found:
        yield "No loss is like that." if everything else "Nothing has been lost."
        return
    now = question.desk.clock.wall()
    table = Table(columns("=#", "=found", "why", "=age", "<coroutine", "<created by", ">more"))
    for lost in found[: words.limit]:
        table.add(
            str(question.desk.numbers.of("leak", _key(lost))),
            ago(lost.lost_at, now),
            lost.reason,
            span(lost.age) if lost.age else "-",
            lost.coroutine,
            f"{lost.site.function}:{lost.site.line}",
            lost.exception or ", ".join(lost.missing) or lost.leak or lost.waiting_on or "",
        )
    yield from table.lines(question.width)
    yield from more(words.limit, len(found), "losses")


def _leak(question: Question) -> Iterator[str]:
    """Yield everything about one loss."""
    if len(question.words) > 1:
        raise WrongUseError("One at a time: leaks N.")
    key = question.desk.numbers.key("leak", number_of(question.words[0], "leak"))
    found = [lost for lost in question.source.lost() if _key(lost) == key]
    if not found:
        raise WrongUseError(f"There is no loss {question.words[0]} (any more). `leaks` lists them.")
    lost, width = found[0], question.width
    leak = f" ({lost.leak})" if lost.leak else ""
    yield heading(f"loss {question.words[0]}: {lost.reason}{leak} {lost.coroutine}", width)
    yield from field("found", ago(lost.lost_at, question.desk.clock.wall()), width)
    yield from field("age", span(lost.age) if lost.age else None, width)
    yield from field("task", lost.task_name, width)
    done = {"context_lost": "handed over", "never_awaited": "dropped"}.get(lost.reason, "created")
    yield from field(f"{done} by"[:11], f"{lost.site.name} at {place(lost.site)}", width)
    yield from field("exception", lost.exception, width)
    yield from field("without", ", ".join(lost.missing), width)
    yield from field("context", whose(lost), width)
    yield from field("waited for", lost.waiting_on, width)
    yield from field("evidence", evidence(lost.evidence), width)
    if lost.await_stack:
        yield "  stood at"
        yield from stack_lines(lost.await_stack, own_frame(lost.await_stack, lost.site), width, whole=True)


def _key(lost: Lost) -> tuple[object, ...]:
    """Return what identifies a loss: its record does not change."""
    return lost.lost_at, lost.reason, lost.coroutine, lost.task_name, lost.age


def _is(task: Task, state: str) -> bool:
    if state == "any":
        return True
    if state in ("live", "ended"):
        return (task.state == "pending") == (state == "live")
    return task.state == state


def _keeps(words: Options, task: Task) -> bool:
    return not words.filters or words.keeps(
        task.name,
        task.coroutine,
        task.site.name,
        place(task.site),
        task.waiting_on,
        task.exception,
        task.parent,
        whose(task),
        *(frame.name for frame in task.await_stack),
    )


def _state(task: Task) -> str:
    if task.state != "pending":
        return f"{task.state}!" if task.unretrieved else task.state
    return "waits" if task.waiting_on else "runs"


def _kinds(task: Task) -> Iterator[str]:
    if task.daemon:
        yield "a daemon"
    if task.job:
        yield "a job of spawn()"


def _site(task: Task) -> str:
    return f"{task.site.name} ({place(task.site)})"


_ORDERS: dict[str, Callable[[Task], tuple[object, ...]]] = {
    "age": lambda task: (task.daemon, -task.age) if task.duration is None else (2, task.age - task.duration),
    "new": lambda task: (task.age,),
    "name": lambda task: (task.name or "", -task.age),
    "coroutine": lambda task: (task.coroutine, -task.age),
    "site": lambda task: (task.site.name, task.site.line, -task.age),
    "waiting": lambda task: (task.waiting_on or "", -task.age),
}
_GROUPS: dict[str, Callable[[Task], str]] = {
    "site": _site,
    "coroutine": lambda task: task.coroutine,
    "waiting": lambda task: task.waiting_on or "(nothing)",
}
_HEADINGS = {"site": "created by", "coroutine": "coroutine", "waiting": "waits for"}


COMMANDS = (
    Command(
        "tasks",
        "[TEXT] [OPTION]",
        "the live tasks, oldest first",
        _tasks,
        "TEXT has to occur in name, coroutine, site, wait, context or await chain. state= shows those that "
        "ended (a ! is at an exception that nobody has asked for), sort= orders, by= groups.",
        values_of(_STATES),
    ),
    Command("task", "N", "one task: where it stands, for whom, who awaits it", _task, "N may be its name."),
    Command(
        "tree",
        "[TEXT] [of=]",
        "who awaits whom; of=creators: who created whom",
        _tree,
        "Of those that are alike there is one line. Creators are told by their coroutines.",
        values_of(_TREES),
    ),
    Command("waits", "[TEXT]", "who waits for locks, semaphores, events and queues", _waits),
    Command(
        "leaks",
        "[N] [TEXT] [reason=]",
        "tasks that were lost, or will never end; with N all about one",
        _leaks,
        "The newest first.",
        values_of(_REASONS),
    ),
)
