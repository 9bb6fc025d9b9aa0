"""Kernel ids of threads."""

import os
import subprocess
import sys
import threading

import pytest

from loopwatch._internals.threads import native_ids


def test_each_thread_has_its_own() -> None:
    there, leave = threading.Event(), threading.Event()
    seen: list[tuple[int, int]] = []

    def stay() -> None:
        seen.append((threading.get_ident(), threading.get_native_id()))
        there.set()
        leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    there.wait()
    ids = native_ids()
    leave.set()
    thread.join()
    assert ids[seen[0][0]] == seen[0][1]
    assert ids[threading.get_ident()] == threading.get_native_id()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_one_of_its_own() -> None:
    """Before CPython 3.14 its main thread says that it is the parent's."""
    program = """
import os, threading
from loopwatch._internals.threads import native_ids

if child := os.fork():
    os.waitpid(child, 0)
else:
    print(native_ids() == {threading.get_ident(): threading.get_native_id()}, flush=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(sys.platform != "linux", reason="there no file tells")
def test_in_a_forked_child_a_file_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That lets go of the GIL, and whoever asks may have to keep it."""
    looked_at = []
    monkeypatch.setattr(os.path, "exists", looked_at.append)
    main = threading.main_thread()
    monkeypatch.setattr(main, "_native_id", 2**22 + 1)  # more than any thread's
    for _ in range(3):
        assert native_ids()[main.ident or 0] == os.getpid()
    assert looked_at == [f"/proc/self/task/{2**22 + 1}"]
