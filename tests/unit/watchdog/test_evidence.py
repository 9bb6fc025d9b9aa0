"""What the operating system says, from files as Linux writes them."""

import dataclasses
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from loopwatch._store.loop_state import LoopState
from loopwatch._watchdog.evidence import Evidence, System
from loopwatch.testing import FakeClock

STAT = "4242 (my (odd) name) S 1 4242 4242 0 -1 4194560 100 0 0 0 5 3 0 0 20 0 3 0 100 0 0\n"


class Root:
    """A file system with just what is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str | bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def system(self) -> System:
        return System(self.path)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


class TestRunqueue:
    """How long a thread was ready but had no CPU."""

    def test_the_second_number_of_schedstat_in_nanoseconds(self, root: Root) -> None:
        root.write("proc/self/task/7/schedstat", "912345678 250000000 42\n")
        assert root.system().runqueue(7) == 0.25

    def test_zeros_are_a_kernel_that_does_not_keep_it_until_one_is_not(self, root: Root) -> None:
        system = root.system()
        root.write("proc/self/task/7/schedstat", "0 0 0\n")
        assert system.runqueue(7) is None
        root.write("proc/self/task/8/schedstat", "5 1000 1\n")
        assert system.runqueue(8) == pytest.approx(1e-6)
        assert system.runqueue(7) == 0.0

    @pytest.mark.parametrize("text", ["", "12\n"])
    def test_a_file_that_says_less_is_unknown(self, root: Root, text: str) -> None:
        root.write("proc/self/task/7/schedstat", text)
        assert root.system().runqueue(7) is None

    def test_a_mock_in_place_of_the_systems_functions_is_not_called(
        self, root: Root, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root.write("proc/self/task/7/schedstat", "912345678 250000000 42\n")
        system, mock = root.system(), Mock()
        with monkeypatch.context() as patch:
            for name in ("open", "read", "close"):
                patch.setattr(os, name, mock)
            assert system.runqueue(7) == 0.25
        assert not mock.called

    def test_each_call_that_lets_go_of_the_gil_is_told_of(self, root: Root) -> None:
        root.write("proc/self/task/7/schedstat", "912345678 250000000 42\n")
        system, calls = root.system(), Mock()
        system.came_back = calls
        assert system.runqueue(7) == 0.25
        assert calls.call_count == 3  # open, read, close
        assert system.runqueue(8) is None
        assert calls.call_count == 4

    def test_a_thread_that_has_ended_is_unknown(self, root: Root) -> None:
        assert root.system().runqueue(7) is None


class TestState:
    """The scheduler's letter."""

    def test_it_follows_the_name_whatever_that_holds(self, root: Root) -> None:
        root.write("proc/self/task/7/stat", STAT)
        assert root.system().state(7) == "S"

    def test_a_name_cut_within_a_character_is_no_obstacle(self, root: Root) -> None:
        root.write("proc/self/task/7/stat", b"7 (l\xc3) D 1 7")
        assert root.system().state(7) == "D"

    def test_unknown_is_empty(self, root: Root) -> None:
        assert root.system().state(7) == ""


V2 = "usage_usec 100\nuser_usec 60\nnr_periods 10\nnr_throttled 3\nthrottled_usec 2500000\n"
V1 = "nr_periods 10\nnr_throttled 3\nthrottled_time 1500000000\n"


class TestThrottling:
    """How long the cgroup was denied the CPU."""

    @pytest.mark.parametrize(
        ("cgroup", "file", "text", "seconds"),
        [
            ("0::/\n", "sys/fs/cgroup/cpu.stat", V2, 2.5),
            ("0::/kubepods/pod1/box\n", "sys/fs/cgroup/kubepods/pod1/box/cpu.stat", V2, 2.5),
            ("0::/not/mounted/here\n", "sys/fs/cgroup/cpu.stat", V2, 2.5),
            ("1:name=systemd:/\n0::/box\n", "sys/fs/cgroup/unified/box/cpu.stat", V2, 2.5),
            ("4:cpu,cpuacct:/docker/ab\n", "sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.stat", V1, 1.5),
            ("4:cpu,cpuacct:/docker/ab\n", "sys/fs/cgroup/cpu,cpuacct/cpu.stat", V1, 1.5),
            ("9:cpuset:/\n4:cpu:/docker/ab\n", "sys/fs/cgroup/cpu/docker/ab/cpu.stat", V1, 1.5),
            ("0::/a:b\n", "sys/fs/cgroup/a:b/cpu.stat", V2, 2.5),
        ],
    )
    def test_it_is_found_in_both_versions(
        self, root: Root, cgroup: str, file: str, text: str, seconds: float
    ) -> None:
        root.write("proc/self/cgroup", cgroup)
        root.write(file, text)
        assert root.system().throttled() == seconds

    @pytest.mark.parametrize("cgroup", ["", "0::/\n", "\n\n", "no colons at all\n", "9:cpuset:/\n"])
    def test_without_a_controller_it_is_unknown(self, root: Root, cgroup: str) -> None:
        root.write("proc/self/cgroup", cgroup)
        root.write("sys/fs/cgroup/cpu.stat", "usage_usec 100\nuser_usec 60\n")
        assert root.system().throttled() is None

    def test_without_proc_it_is_unknown(self, root: Root) -> None:
        assert root.system().throttled() is None

    def test_a_group_that_goes_away_is_unknown(self, root: Root) -> None:
        root.write("proc/self/cgroup", "0::/\n")
        root.write("sys/fs/cgroup/cpu.stat", V2)
        system = root.system()
        (root.path / "sys/fs/cgroup/cpu.stat").unlink()
        assert system.throttled() is None


class TestReadings:
    """All counters at one moment."""

    @pytest.fixture
    def state(self) -> LoopState:
        state = LoopState("main")
        state.native_id, state.cpu_clock = 7, 70
        return state

    def test_files_are_read_now_and_then_and_clocks_each_time(self, root: Root, state: LoopState) -> None:
        fake = FakeClock()
        evidence = Evidence(fake.clock, root.system())
        root.write("proc/self/task/7/schedstat", "1 1000000000 1\n")
        first = evidence.read(state, None, fresh=False)
        assert (first.runqueue, first.thread_cpu, first.process_cpu) == (1.0, 0.0, 0.0)
        root.write("proc/self/task/7/schedstat", "1 2000000000 1\n")
        fake.advance(0.05)
        fake.spend(0.25, clock_id=70)
        second = evidence.read(state, first, fresh=False)
        assert (second.runqueue, second.thread_cpu, second.process_cpu) == (1.0, 0.25, 0.25)
        assert second.system_at == first.at < second.at
        assert evidence.read(state, second, fresh=True).runqueue == 2.0
        fake.advance(0.21)
        assert evidence.read(state, second, fresh=False).runqueue == 2.0

    def test_sleep_of_the_machine_is_the_boot_clocks_lead(self, root: Root, state: LoopState) -> None:
        fake = FakeClock()
        evidence = Evidence(fake.clock, root.system())
        before = evidence.read(state, None, fresh=True)
        fake.sleep_machine(30.0)
        fake.advance(1.0)
        assert evidence.read(state, before, fresh=True).asleep - before.asleep == 30.0

    def test_a_slow_file_does_not_read_as_sleep(self, root: Root, state: LoopState) -> None:
        fake = FakeClock()

        class Slow(System):
            def runqueue(self, native_id: int) -> float | None:
                fake.advance(0.3)  # the GIL was lost to the loop meanwhile
                fake.spend(0.3, clock_id=70)
                return None

        evidence = Evidence(fake.clock, Slow(root.path))
        reading = evidence.read(state, None, fresh=True)
        assert (reading.asleep, reading.thread_cpu, reading.at) == (0.0, 0.0, 1_000.0)

    def test_a_thread_without_a_clock_is_unknown(self, root: Root, state: LoopState) -> None:
        def ended(clock_id: int) -> float:
            raise OSError

        state.cpu_clock = None
        assert Evidence(FakeClock().clock, root.system()).read(state, None, fresh=True).thread_cpu is None
        state.cpu_clock = 70
        clock = dataclasses.replace(FakeClock().clock, of_thread=ended)
        assert Evidence(clock, root.system()).thread_cpu(state) is None
