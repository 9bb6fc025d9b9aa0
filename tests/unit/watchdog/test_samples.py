"""Which of the stacks taken tells the story."""

from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwatch._watchdog.samples import Sample, Seen, most_seen
from loopwatch._watchdog.verdict import _task_at


def code(name: str) -> CodeType:
    return compile("pass", name, "exec")


CODES = {name: code(name) for name in "abcd"}


def stack(places: str) -> tuple[tuple[CodeType, int, str], ...]:
    """Make a stack of ``"a1 b2"``: functions, and where in them."""
    return tuple((CODES[place[0]], int(place[1:]), "shop") for place in places.split())


def samples(*seen: tuple[str, float]) -> list[Sample]:
    return [Sample(stack(places), None, 0, seconds) for places, seconds in seen]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], ""),
        ([("", 0.5)], ""),
        ([("a1", 0.1), ("", 5.0)], "a1"),
        ([("a1", 0.3), ("b1", 0.1), ("b1", 0.1)], "a1"),
        ([("a1", 0.1), ("b1", 0.1)], "b1"),
        ([("a1 c1", 0.1), ("a2 c1", 0.1), ("b1 c1", 0.15)], "a2 c1"),
        ([("a1 c1", 0.2), ("a2 c1", 0.1), ("b1 c1", 0.25)], "a1 c1"),
        ([("a1 c1", 0.1), ("a1 c2", 0.1), ("a1 b1 c1", 0.15)], "a1 c2"),
    ],
    ids=str,
)
def test_the_functions_seen_for_longest_and_of_them_the_place(
    seen: list[tuple[str, float]], expected: str
) -> None:
    assert most_seen(samples(*seen)) == stack(expected)


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        ((0.2, 0.1, 0.05), "a1 c1"),
        ((0.02, 0.1, 0.05), "a2 c1"),
        ((0.1, 0.05, 0.2), "b1"),
        ((0.0, 0.0, 0.0), "b1"),
    ],
)
def test_where_the_thread_computed_counts_and_not_where_it_waited_for_a_cpu(
    computed: tuple[float, ...], expected: str
) -> None:
    taken = samples(("a1 c1", 0.2), ("a2 c1", 0.2), ("b1", 3.0))
    for sample, seconds in zip(taken, computed, strict=True):
        sample.computed = seconds
    assert most_seen(taken, computing=True) == stack(expected)
    assert most_seen(taken) == stack("b1")


@given(st.lists(st.tuples(st.sampled_from(["a1", "a2", "b1", "b1 a1", ""]), st.floats(0.01, 1.0))))
def test_what_is_returned_was_seen(seen: list[tuple[str, float]]) -> None:
    found = most_seen(samples(*seen))
    stacks = [stack(places) for places, _ in seen if places]
    assert found in stacks if stacks else found == ()


def test_the_task_is_the_one_that_stood_there() -> None:
    """A step that goes from task to task is not told of the one it happened to be at last."""
    culprit, next_one = Seen("culprit", "handle", None), Seen("next", "handle", None)
    taken = samples(("a1", 0.2), ("a1", 0.01), ("b1", 0.05), ("b2", 0.05))
    for sample, task in zip(taken, (culprit, None, next_one, None), strict=True):
        sample.task = task
    assert _task_at(most_seen(taken), taken) == culprit
    assert _task_at(stack("b2"), taken) == (None, None, None)
    assert _task_at((), []) == (None, None, None)
