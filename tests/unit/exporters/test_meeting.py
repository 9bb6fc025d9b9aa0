"""The directory where workers meet: who is let in, who is found there, and what we cannot be tricked into."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loopwatch import _user_directory
from loopwatch._settings import RUN
from loopwatch.exporters import meeting as module
from loopwatch.exporters.meeting import Entry, Meeting, NoMeetingError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers meet on Linux")

PORT = 9464
PATIENCE = 30.0

WORKER = """
import sys
from loopwatch.exporters.meeting import Meeting

meeting = Meeting("127.0.0.1", int(sys.argv[1]), "shop")
said = "claimed" if meeting.claim() else "waits"
meeting.publish("http://somewhere/metrics")
print(said, flush=True)
sys.stdin.read()
meeting.leave()
"""

Enter = Callable[..., Meeting]


class Worker:
    """Another process that has entered."""

    def __init__(self, port: int = PORT, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(port)],
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def leave(self) -> None:
        self.process.communicate("", timeout=PATIENCE)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory of this test's own, with a path longer than a socket's may be."""
    runtime = tmp_path / ("long" * 30)
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv(RUN, raising=False)
    return runtime


@pytest.fixture
def enter() -> Iterator[Enter]:
    with ExitStack() as left:

        def enter(host: str = "127.0.0.1", port: int = PORT, service_name: str = "shop") -> Meeting:
            meeting = Meeting(host, port, service_name)
            left.callback(meeting.leave)
            return meeting

        yield enter


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    with ExitStack() as ended:

        def start(port: int = PORT, **environ: str) -> Worker:
            worker = Worker(port, **environ)
            ended.enter_context(worker.process)
            ended.callback(worker.process.kill)
            return worker

        yield start


Start = Callable[..., Worker]


def names(runtime: Path) -> list[str]:
    return sorted(os.listdir(runtime / "loopwatch"))


def dead_entry(meeting: Meeting, pid: int, start: int) -> Path:
    """Leave a socket behind, as a killed process does."""
    name = f"{meeting._group}-{pid}-{start}"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"/proc/self/fd/{meeting._directory.file}/{name}")
    return Path(os.environ["XDG_RUNTIME_DIR"], "loopwatch", name)


class TestOthers:
    """Who is there."""

    def test_alone_there_is_none_and_nothing_is_left_behind(self, enter: Enter, runtime: Path) -> None:
        meeting = enter()
        assert meeting.others() == []
        assert not meeting.shared
        assert len(names(runtime)) == 1
        assert meeting.claim()
        assert len(names(runtime)) == 2
        meeting.leave()
        assert names(runtime) == []

    def test_all_of_the_same_port_find_each_other(self, enter: Enter, start: Start) -> None:
        workers = [start() for _ in range(3)]
        meeting = enter()
        assert [entry.pid for entry in meeting.others()] == sorted(worker.pid for worker in workers)
        assert meeting.shared

    def test_another_port_host_service_and_run_are_others_meetings(self, enter: Enter, start: Start) -> None:
        start(PORT + 1)
        start(**{RUN: "12345"})
        start()
        assert enter(host="0.0.0.0").others() == []
        assert enter(service_name="cellar").others() == []

    def test_under_one_run_all_are_one_program(
        self, enter: Enter, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = start(**{RUN: "12345"})
        monkeypatch.setenv(RUN, "12345")
        assert [other.pid for other in enter(service_name="cellar").others()] == [worker.process.pid]

    def test_another_session_is_another_program(self, enter: Enter) -> None:
        own = enter()._group
        code = "from loopwatch.exporters.meeting import _group; print(_group('127.0.0.1', 9464, 'shop'))"
        for new_session in (True, False):
            said = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, start_new_session=new_session
            )
            assert (said.stdout.strip() == own) == (not new_session)

    def test_one_that_leaves_is_gone_and_what_was_seen_is_remembered(
        self, enter: Enter, start: Start
    ) -> None:
        worker, meeting = start(), enter()
        assert len(meeting.others()) == 1
        worker.leave()
        assert meeting.others() == []
        assert meeting.shared

    def test_the_entry_of_a_killed_one_is_removed_by_who_notices(
        self, enter: Enter, start: Start, runtime: Path
    ) -> None:
        worker, meeting = start(), enter()
        worker.kill()
        assert meeting.others() == []
        assert not [name for name in names(runtime) if f"-{worker.pid}-" in name]

    def test_one_that_is_dead_but_not_buried_is_dead(self, enter: Enter, start: Start) -> None:
        worker, meeting = start(), enter()
        worker.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
        assert meeting.others() == []

    def test_one_that_cannot_be_looked_at_for_want_of_files_stays(
        self, enter: Enter, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another thread may take the last one between two looks."""
        worker, meeting = start(), enter()

        def fail(self: Path, *args: object, **kwargs: object) -> str:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", fail)
            meeting.others()
        assert [entry.pid for entry in meeting.others()] == [worker.pid]

    def test_a_pid_that_is_anothers_by_now_is_dead(self, enter: Enter, start: Start) -> None:
        worker, meeting = start(), enter()
        [entry] = meeting.others()
        reused = dead_entry(meeting, worker.pid, entry.start - 1)
        assert meeting.others() == [entry]
        assert not reused.exists()

    def test_no_more_than_can_be_asked_are_found(self, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Entry, "lives", True)
        meeting = enter()
        for number in range(module.MOST + 10):
            dead_entry(meeting, 100_000 + number, 1)
        assert len(meeting.others()) == module.MOST

    def test_names_that_mean_nothing_are_passed_over(self, enter: Enter, runtime: Path) -> None:
        meeting = enter()
        for name in ("x", f"{meeting._group}-1", f"{meeting._group}-x-y", f"{meeting._group}-{'9' * 30}-1"):
            (runtime / "loopwatch" / name).touch()
        assert meeting.others() == []


class TestTidying:
    """What killed processes of any group left behind."""

    def test_all_that_is_dead_goes_with_its_lock(self, enter: Enter, start: Start, runtime: Path) -> None:
        killed = start(PORT + 1)
        assert killed.said == "claimed"
        killed.kill()
        assert len(names(runtime)) == 2
        enter()
        assert len(names(runtime)) == 1

    def test_all_that_lives_stays(self, enter: Enter, start: Start, runtime: Path) -> None:
        start(PORT + 1)
        before = names(runtime)
        enter()
        assert set(before) < set(names(runtime))

    def test_of_another_pid_namespace_who_refuses_is_dead_and_who_does_not_is_not(
        self, enter: Enter, runtime: Path
    ) -> None:
        """As in containers that share a directory: our pids are not theirs."""
        (runtime / "loopwatch").mkdir(mode=0o700)
        os.chdir(runtime / "loopwatch")
        with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
            dead.bind("1-abc-1-1")
            alive.bind("1-abc-2-1")
            alive.listen()
            dead.close()
            enter()
            assert [name for name in names(runtime) if name.startswith("1-")] == ["1-abc-2-1"]

    def test_its_own_name_is_taken_again_after_exec(self, enter: Enter, runtime: Path) -> None:
        first = enter()
        os.rename(runtime / "loopwatch" / first._own, runtime / "kept")
        first.leave()
        os.rename(runtime / "kept", runtime / "loopwatch" / first._own)  # as exec leaves it
        second = enter()
        assert names(runtime) == [second._own]
        own = Entry(os.getpid(), 0, second._group, second._own)
        second.connect(own).close()


class TestClaim:
    """Who may have the port."""

    def test_it_is_of_one_at_a_time_who_says_where(self, enter: Enter, start: Start) -> None:
        first, second, meeting = start(), start(), enter()
        assert (first.said, second.said) == ("claimed", "waits")
        assert not meeting.claim()
        assert meeting.claimant() == (first.pid, "http://somewhere/metrics")
        assert meeting.shared

    def test_it_is_free_when_its_owner_is_killed(self, enter: Enter, start: Start) -> None:
        worker, meeting = start(), enter()
        assert not meeting.claim()
        worker.kill()
        assert meeting.claim()
        assert meeting.claim()
        meeting.publish(None)
        assert meeting.claimant() == (os.getpid(), None)

    def test_it_is_free_when_its_owner_leaves(self, enter: Enter, start: Start) -> None:
        worker, meeting = start(), enter()
        worker.leave()
        assert meeting.claim()

    def test_a_forked_child_that_lets_go_does_not_free_it(self, enter: Enter, start: Start) -> None:
        meeting = enter()
        assert meeting.claim()
        pid = os.fork()
        if not pid:
            try:
                meeting.close()
            finally:
                os._exit(0)  # whatever fails: the child must not run the other tests
        os.waitpid(pid, 0)
        assert start().said == "waits"

    @pytest.mark.parametrize("text", ["", "12", "x http://y\n", "1 2 3\n"])
    def test_what_is_half_written_says_nothing(self, enter: Enter, runtime: Path, text: str) -> None:
        meeting = enter()
        (runtime / "loopwatch" / f"{meeting._group}.lock").write_text(text)
        assert meeting.claimant() == (None, None)

    def test_a_symlink_in_place_of_the_lock_is_not_followed(
        self, enter: Enter, runtime: Path, tmp_path: Path
    ) -> None:
        meeting = enter()
        precious = tmp_path / "precious"
        precious.write_text("kept")
        (runtime / "loopwatch" / f"{meeting._group}.lock").symlink_to(precious)
        with pytest.raises(OSError, match="symbolic"):
            meeting.claim()
        assert meeting.claimant() == (None, None)
        assert precious.read_text() == "kept"


class TestPlace:
    """Which directory is used, and which is not."""

    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setattr(_user_directory.tempfile, "tempdir", str(temporary))
        return temporary

    @pytest.fixture
    def place(self, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Leave the temporary directory as the only one."""
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        return temporary / f"loopwatch-{os.geteuid()}"

    def test_it_is_the_runtime_directory_of_the_user(self, enter: Enter, runtime: Path) -> None:
        enter()
        assert (runtime / "loopwatch").stat().st_mode & 0o7777 == 0o700

    @pytest.mark.parametrize("runtime_directory", ["", "relative", "/proc/nowhere"])
    def test_without_one_it_is_in_the_temporary_directory(
        self, enter: Enter, place: Path, monkeypatch: pytest.MonkeyPatch, runtime_directory: str
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_directory)
        enter()
        assert place.stat().st_mode & 0o7777 == 0o700
        assert len(os.listdir(place)) == 1

    def test_a_symlink_is_refused(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(NoMeetingError, match=f"{place}: "):
            Meeting("127.0.0.1", PORT, "shop")
        assert os.listdir(tmp_path / "elsewhere") == []

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o750, 0o701])
    def test_one_that_others_can_enter_is_refused_and_left_as_it_is(self, place: Path, mode: int) -> None:
        place.mkdir()
        place.chmod(mode)
        with pytest.raises(NoMeetingError, match=f"its mode is {mode:04o}; give it 0700"):
            Meeting("127.0.0.1", PORT, "shop")
        assert place.stat().st_mode & 0o7777 == mode
        assert os.listdir(place) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs: root, to give a directory to another user")
    def test_one_of_another_user_is_refused(self, place: Path) -> None:
        place.mkdir(mode=0o700)
        os.chown(place, 12345, 12345)
        with pytest.raises(NoMeetingError, match="belongs to user 12345, not to 0; remove it"):
            Meeting("127.0.0.1", PORT, "shop")
        assert os.listdir(place) == []

    def test_a_file_in_its_place_is_refused(self, place: Path) -> None:
        place.write_text("kept")
        with pytest.raises(NoMeetingError, match="Not a directory"):
            Meeting("127.0.0.1", PORT, "shop")
        assert place.read_text() == "kept"

    def test_nowhere_to_write_is_said_for_each_place(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/nowhere")
        monkeypatch.setattr(_user_directory.tempfile, "tempdir", "/proc/nowhere-else")
        with pytest.raises(NoMeetingError, match=r"/proc/nowhere/.*: .*; /proc/nowhere-else/loopwatch-"):
            Meeting("127.0.0.1", PORT, "shop")

    def test_without_proc_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_start", lambda pid: None)
        with pytest.raises(NoMeetingError, match="takes Linux"):
            Meeting("127.0.0.1", PORT, "shop")

    def test_no_file_stays_open_when_it_cannot_be_entered(
        self, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(module.os, "rename", fail)
        with pytest.raises(NoMeetingError, match="No space left"):
            Meeting("127.0.0.1", PORT, "shop")
        assert len(os.listdir("/proc/self/fd")) == before
