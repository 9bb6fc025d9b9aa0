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
