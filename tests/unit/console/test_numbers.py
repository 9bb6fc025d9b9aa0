"""Numbers stay with their things, and are bounded."""

from __future__ import annotations

import threading

from loopwatch._console.numbers import KEPT, Numbers


def test_each_kind_counts_for_itself_and_a_number_stays() -> None:
    numbers = Numbers()
    assert [numbers.of("task", key) for key in ("a", "b", "a")] == [1, 2, 1]
    assert numbers.of("stall", "a") == 1
    assert (numbers.key("task", 2), numbers.key("stall", 1), numbers.key("task", 3)) == ("b", "a", None)


def test_those_shown_longest_ago_are_forgotten_and_their_numbers_not_used_again() -> None:
    numbers = Numbers()
    for key in range(KEPT):
        numbers.of("task", key)
    assert numbers.of("task", 0) == 1  # shown again: the next oldest goes
    assert numbers.of("task", "new") == KEPT + 1
    assert (numbers.key("task", 1), numbers.key("task", 2)) == (0, None)
    assert numbers.of("task", 1) == KEPT + 2


def test_threads_that_ask_at_once_get_the_same_number() -> None:
    numbers = Numbers()
    found: list[list[int]] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        found.append([numbers.of("task", key) for key in range(2000)])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 4
    assert sorted(found[0]) == list(range(1, 2001))
