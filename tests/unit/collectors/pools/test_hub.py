"""Pools are found, before and after, and counted by label; what a library lacks is absent."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loopwatch._collectors.pools.binding import Binding
from loopwatch._collectors.pools.protocol import Sample
from loopwatch._store.pools import LABELS

from .conftest import LIBRARY, SOURCE, Desk, Reader, import_library, run


async def acquire(pool: Any) -> Any:
    return await pool.acquire()


async def other_acquire(self: Any, seconds: float = 0) -> Any:
    connection = self.connection()
    self.used.append(connection)
    return connection


def test_a_library_imported_later_is_bound_then(
    make_desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Reader):
        kind = "other"

        def bind(self, module: ModuleType, binding: Binding) -> None:
            binding.cls("Holder")

    (tmp_path / f"{LIBRARY}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    desk = make_desk(Reader(), Other())
    desk.hub.install()
    assert LIBRARY not in sys.modules
    assert desk.hub.bindings() == []
    library: Any = importlib.import_module(LIBRARY)
    assert [binding.reader.kind for binding in desk.hub.bindings()] == ["fake", "other"]
    run(acquire(library.Pool(name="x")))
    assert desk.one().wait_count == 1


def test_a_pool_from_before_is_found_at_its_first_acquire(
    library: Any, make_desk: Callable[..., Desk]
) -> None:
    pools = [library.Pool(name="x"), library.Subclass(name="x"), library.Pool()]
    desk = make_desk()
    desk.hub.install()
    assert desk.all() == ()
    for pool in pools:
        run(acquire(pool))
    assert {(pool.label, pool.instances, pool.wait_count) for pool in desk.all()} == {
        ("x", 2, 2),
        ("_unknown", 1, 1),
    }


def test_without_a_name_the_line_of_creation_is_the_label(library: Any, desk: Desk) -> None:
    line = sys._getframe().f_lineno + 1
    pool = library.Pool()
    assert desk.one().label == f"{__name__}:{line}"
    assert (desk.one().used, desk.one().created, desk.one().wait_count) == (0, 1, 0)
    del pool


def test_an_init_that_raises_makes_no_pool(library: Any, desk: Desk) -> None:
    with pytest.raises(ValueError, match="size") as caught:
        library.Pool(0)
    frame = caught.traceback[-1]
    assert (len(caught.traceback), frame.name) == (2, "__init__")
    assert desk.all() == ()


def test_a_pool_for_each_request_makes_one_series_that_never_falls(library: Any, desk: Desk) -> None:
    async def request() -> None:
        pool = library.Pool()
        pool.release(await pool.acquire())

    for number in range(1, 201):
        run(request())
        if number % 50 == 0:
            gc.collect()
            found = desk.one()
            assert (found.instances, found.created, found.wait_count) == (0, number, number)
            assert (found.max, found.used, found.pending, found.borrowers) == (None, 0, 0, None)
    assert desk.pools.live() == []


def test_labels_beyond_64_are_counted_together(library: Any, desk: Desk) -> None:
    pools = [library.Pool(name=f"pool-{number}") for number in range(LABELS + 36)]
    found = {pool.label: pool for pool in desk.all()}
    assert len(found) == LABELS + 1
    assert (found["_other"].instances, found["_other"].created, found["_other"].max) == (36, 36, 72)
    assert len(pools) == sum(pool.instances for pool in found.values())


def test_threads_under_one_label_are_added_up(library: Any, desk: Desk) -> None:
    kept = []
    both = threading.Barrier(2)

    def work() -> None:
        pool = library.Pool(name="x", size=500)
        kept.append(pool)

        async def main() -> None:
            both.wait(30)
            for _ in range(500):
                await pool.acquire()

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = desk.one()
    assert (found.instances, found.created, found.used, found.wait_count) == (2, 2, 1000, 1000)


def test_a_fork_begins_afresh_with_the_pools_it_has(library: Any, desk: Desk) -> None:
    pool = library.Pool(name="x")
    run(acquire(pool))
    desk.pools.clear(desk.fake.clock.monotonic())
    assert (desk.one().instances, desk.one().wait_count, desk.one().borrowers) == (1, 0, ())
    run(acquire(pool))
    assert (desk.one().wait_count, desk.one().used) == (1, 2)


class TestFailingSoft:
    """A library that is not as the reader knows it."""

    @pytest.mark.parametrize(
        ("change", "off", "reason"),
        [
            (lambda library: delattr(library.Pool, "release"), "gauges", "Pool has no release"),
            (lambda library: delattr(library, "Late"), "waits", f"{LIBRARY} has no class Late"),
            (lambda library: delattr(library.Pool, "acquire"), "waits", "Pool has no acquire"),
            (lambda library: setattr(library.Pool, "acquire", other_acquire), "waits", "takes no timeout"),
            (lambda library: delattr(library, "Holder"), "holders", "no class Holder"),
        ],
        ids=["attribute", "class", "method", "parameter", "holders"],
    )
    def test_a_feature_is_off_and_the_others_work(
        self,
        make_desk: Callable[..., Desk],
        caplog: pytest.LogCaptureFixture,
        change: Callable[[Any], None],
        off: str,
        reason: str,
    ) -> None:
        library = import_library()
        original = library.Pool.acquire
        change(library)
        before = dict(vars(library.Pool))
        desk = make_desk()
        desk.hub.install()
        up = {feature: value for (_, feature), value in desk.points("reader_up").items()}
        assert up == {"gauges": 1, "waits": 1, "holders": 1} | {off: 0}
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert reason in caplog.text
        pool = library.Pool(name="x")
        taken = run(getattr(pool, "acquire", original.__get__(pool))())
        assert isinstance(taken, library.Connection)
        waits = [name for name in ("database_wait", "database_timeouts") if desk.points(name)]
        gauges = [name for name in ("database_limit", "database_waiters") if desk.points(name)]
        assert waits == ([] if off == "waits" else ["database_wait", "database_timeouts"])
        assert gauges == ([] if off == "gauges" else ["database_limit", "database_waiters"])
        desk.hub.remove()
        assert vars(library.Pool) == before

    def test_three_reads_that_fail_end_the_reading(
        self, library: Any, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        pool = library.Pool(name="x")
        del pool.used
        for _ in range(5):
            found = desk.one()
            assert (found.max, found.used, found.pending, found.instances) == (None, None, None, 1)
        assert desk.points("reader_up")[("fake", "gauges")] == 0
        assert desk.points("database_connections") == {}
        [said] = caplog.records
        assert said.levelname == "WARNING"
        assert "without their gauges and holders, since" in said.getMessage()

    def test_what_fails_later_is_no_second_warning(
        self, library: Any, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="loopwatch")
        pool = library.Pool(name="x")
        [binding] = desk.hub.bindings()
        binding.switch_off("waits", LookupError("a value"))
        assert caplog.records == []  # a loop's thread may be at work
        desk.one()
        del pool.used
        for _ in range(5):
            desk.one()
        told = [(record.levelname, record.getMessage()) for record in caplog.records]
        assert [level for level, _ in told] == ["WARNING", "INFO"]
        assert "without their waits, since this version is not as we know it: LookupError." in told[0][1]
        assert "without their gauges and holders, since" in told[1][1]
        assert [up for _, up in sorted(desk.points("reader_up").items())] == [0, 0, 0]

    def test_what_the_library_exports_itself_is_not_exported_twice(
        self, library: Any, make_desk: Callable[..., Desk]
    ) -> None:
        class Exporting(Reader):
            def exports(self) -> frozenset[str]:
                return frozenset(("database_connections", "database_wait"))

        desk = make_desk(Exporting())
        desk.hub.install()
        pool = library.Pool(name="x")
        assert desk.points("database_connections") == desk.points("database_wait") == {}
        assert desk.points("database_limit") == {("x",): 2}
        assert desk.points("database_timeouts") == {("x",): 0}
        assert desk.points("pool_instances") == {("x", "fake"): 1}
        assert desk.one().max == 2
        del pool

    def test_pools_of_two_libraries_with_one_name_are_added_up(
        self, library: Any, make_desk: Callable[..., Desk]
    ) -> None:
        class Other(Reader):
            kind = "other"
            limited = True

            def bind(self, module: ModuleType, binding: Binding) -> None:
                with binding.feature("gauges"):
                    binding.creates(binding.cls("Bounded"))

            def read(self, anchor: Any) -> Sample:
                return Sample(max=3 if self.limited else None, used=1)

        library.Bounded = type("Bounded", (), {"__init__": lambda self: None, "name": "x"})
        other = Other()
        desk = make_desk(Reader(), other)
        desk.hub.install()
        pools = library.Pool(name="x"), library.Bounded()
        assert desk.points("database_limit") == {("x",): 2 + 3}
        other.limited = False
        assert desk.points("database_limit") == {}  # the two together have none
        assert desk.points("database_connections")[("x", "used")] == 1
        del pools
