"""Trees of tasks: who awaits whom, and who created whom. Similar tasks share a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loopwatch._records import Task
from loopwatch._words import clean, number, span

from .command import Question
from .options import Options
from .parts import more
from .tables import cut

TREE_LINES = 40
"""Lines of a tree, unless ``limit`` says otherwise."""
DEEPEST = 12
"""Levels shown."""


@dataclass(slots=True)
class _Node:
    """Similar tasks, in one place of the tree."""

    text: str
    tasks: dict[int, Task] = field(default_factory=dict)
    """By their ids."""
    below: dict[object, _Node] = field(default_factory=dict)
    mark: str = ""


def awaiting_lines(tasks: Sequence[Task], words: Options, question: Question) -> Iterator[str]:
    """Yield who awaits whom, from the tasks that nobody awaits down; tasks that await none are counted."""
    by_id = {task.id: task for task in tasks}
    awaited = {key for task in tasks for key in task.awaits}
    tops = [task for task in tasks if task.awaits and task.id not in awaited]
    reached = _reached(tops, by_id)
    tops += _one_of_each_cycle([task for task in tasks if task.awaits and task.id not in reached], by_id)
    root = _Node("")
    expanded: set[int] = set()
    for task in tops:
        _add_awaiting(root, task, by_id, (), expanded)
    lines = [line for node in _ranked(root) if _keeps(node, words) for line in _lines(node, question, 0)]
    yield from _bounded(lines, words)
    alone = sum(not task.awaits and task.id not in awaited for task in tasks)
    if not lines:
        yield "No task awaits another" + (" like that." if words.filters else ".")
    yield f"{number(alone)} tasks await no task and are awaited by none: see `tasks`, `waits`."


def _add_awaiting(
    above: _Node, task: Task, by_id: dict[int, Task], path: tuple[int, ...], expanded: set[int]
) -> None:
    """Add a task below a node; the tasks it awaits are shown below its first occurrence only."""
    waits = task.waiting_on or "runs"
    kind = (task.coroutine, task.site, waits.partition(" '")[0], task.id in path)
    node = above.below.setdefault(kind, _Node(f"{task.coroutine}  {waits}"))
    if task.id in node.tasks:
        return
    node.tasks[task.id] = task
    if task.id in path:
        node.mark = "  <- a cycle: it waits for itself"
    elif task.awaits and task.id in expanded:
        node.mark = "  (as above)"
    elif len(path) < DEEPEST:
        expanded.add(task.id)
        for key in task.awaits:
            if key in by_id:
                _add_awaiting(node, by_id[key], by_id, (*path, task.id), expanded)


def _reached(tops: Sequence[Task], by_id: dict[int, Task]) -> set[int]:
    waiting = [task.id for task in tops]
    seen: set[int] = set()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting += by_id[key].awaits if key in by_id else ()
    return seen


def _one_of_each_cycle(tasks: Sequence[Task], by_id: dict[int, Task]) -> Iterator[Task]:
    """Yield tasks from which all others can be reached: in a cycle each task is awaited."""
    seen: set[int] = set()
    for task in tasks:
        if task.id not in seen:
            seen |= _reached([task], by_id)
            yield task


def creating_lines(tasks: Sequence[Task], words: Options, question: Question) -> Iterator[str]:
    """Yield which coroutines created live tasks of which others, from code outside tasks down."""
    by_parent: dict[str | None, list[Task]] = {}
    for task in tasks:
        by_parent.setdefault(task.parent, []).append(task)
    alive = {task.coroutine for task in tasks}
    root = _Node("")
    for parent in by_parent:
        if parent is None or parent not in alive:
            name = "code outside of tasks" if parent is None else f"{parent}  (ended)"
            node = root.below[parent] = _Node(name)
            _add_created(node, by_parent[parent], by_parent, ())
    for parent in by_parent.keys() - _shown(root) - root.below.keys():  # a coroutine created only by itself
        node = root.below[parent] = _Node(f"{parent}")
        _add_created(node, by_parent[parent], by_parent, (parent or "",))
    lines = [line for node in _ranked(root) if _keeps(node, words) for line in _lines(node, question, 0)]
    yield from _bounded(lines, words)
    if not lines:
        yield "No task is like that." if words.filters else "No task lives."


def _add_created(
    above: _Node, tasks: Sequence[Task], by_parent: dict[str | None, list[Task]], path: tuple[str, ...]
) -> None:
    for task in tasks:
        kind = (task.coroutine, task.site)
        if kind not in above.below:
            above.below[kind] = _Node(f"{task.coroutine}  created by {task.site.function}:{task.site.line}")
        above.below[kind].tasks[task.id] = task
    for node in above.below.values():
        coroutine = next(iter(node.tasks.values())).coroutine
        if coroutine in path:
            node.mark = "  (as above)"
        elif len(path) < DEEPEST:
            _add_created(node, by_parent.get(coroutine, ()), by_parent, (*path, coroutine))


def _shown(node: _Node) -> set[str | None]:
    """Return the coroutines of a node and of all below it."""
    found: set[str | None] = {task.coroutine for task in node.tasks.values()}
    return found.union(*(_shown(below) for below in node.below.values()))


def _keeps(node: _Node, words: Options) -> bool:
    texts = (text for task in node.tasks.values() for text in (task.name, task.coroutine, task.site.name))
    return words.keeps(node.text, *texts) or any(_keeps(below, words) for below in node.below.values())


def _ranked(node: _Node) -> list[_Node]:
    return sorted(node.below.values(), key=lambda below: -len(below.tasks))


def _lines(node: _Node, question: Question, depth: int) -> Iterator[str]:
    indent = "  " * depth
    count = f"{number(len(node.tasks))} x " if len(node.tasks) > 1 else ""
    oldest = max(node.tasks.values(), key=lambda task: task.age, default=None)
    which = ""
    if oldest is not None:
        e_g = "e.g. " if len(node.tasks) > 1 else ""
        which = f"  [{e_g}#{question.desk.numbers.of('task', oldest.id)}, {span(oldest.age)}]"
    tail = which + node.mark
    room = max(question.width - len(tail), 20)
    yield cut(clean(f"{indent}{count}{node.text}"), room) + tail
    for below in _ranked(node):
        yield from _lines(below, question, depth + 1)


def _bounded(lines: Sequence[str], words: Options) -> Iterator[str]:
    yield from lines[: words.limit]
    yield from more(words.limit, len(lines), "lines")
