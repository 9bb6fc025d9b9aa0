"""What is kept of pools is bounded, and agrees with a model too simple to be wrong."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwatch._store import pools as store
from loopwatch._store.pools import Pools, WaitCell
from loopwatch.facts import BUCKETS

durations = st.floats(0.0, 100.0) | st.sampled_from(BUCKETS)


@given(st.lists(durations), st.lists(durations))
def test_cells_add_up(mine: list[float], theirs: list[float]) -> None:
    both, one, other = WaitCell(), WaitCell(), WaitCell()
    for values, cell in ((mine, one), (theirs, other)):
        for value in values:
            cell.observe(value)
            both.observe(value)
            cell.count("timeout")
    one.absorb(other)
    assert one.waits.counts == both.waits.counts
    assert one.waits.sum == pytest.approx(sum(mine) + sum(theirs))
    assert (one.timeouts, one.rejected, one.cancelled) == (len(mine) + len(theirs), 0, 0)
    for index, bound in enumerate(BUCKETS):
        assert sum(both.waits.counts[: index + 1]) == sum(value <= bound for value in mine + theirs)


def test_a_thread_has_a_cell_until_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "THREADS", 3)
    totals = Pools().under("fake", "other", "x")
    cells: list[WaitCell] = []
    all_live = threading.Barrier(7)

    def work() -> None:
        cell = totals.cell()
        cell.created += 1
        cells.append(cell)
        all_live.wait(30)  # an id is used again when its thread has ended

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    all_live.wait(30)
    for thread in threads:
        thread.join()
    assert len(set(map(id, cells))) == 4
    assert totals.sum().created == 6


def test_labels_are_cut_and_bounded_for_each_kind() -> None:
    pools = Pools()
    long = "x" * 1000
    assert pools.under("one", "other", long) is pools.under("one", "other", long)
    for number in range(200):
        pools.under("one", "other", str(number))
    assert pools.under("two", "other", "first").label == "first"
    labels = [totals.label for totals in pools.totals() if totals.kind == "one"]
    assert (len(labels), labels[0], labels[-1]) == (store.LABELS + 1, "x" * store.LENGTH, "_other")


def test_an_id_that_is_used_again_is_another_pool() -> None:
    class Pool:
        pass

    pools = Pools()
    first = Pool()
    watched = pools.add("fake", first)
    assert pools.add("fake", first) is watched
    ref = watched.anchor
    replaced = store.WatchedPool("fake", ref)
    pools.by_anchor[id(first)] = other = store.WatchedPool("fake", store.weakref.ref(replaced))
    del first  # late: its place in the table is another's by now
    assert pools.live() == [other]
