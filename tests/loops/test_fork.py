"""A forked child is a process of its own: it watches its own loops, and takes nothing from its parent."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.pools.servers import free_port

from .provoked import but_stalls

Script = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

HEAD = """
import asyncio, os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested here
import loopwatch

blocks = []  # by the program's own clock: seconds asked for, beginning, end

def stalls():
    # On a busy machine there are others, by nobody, and each may last longer than it was asked to.
    return [
        (stall.culprit.function, seconds)
        for stall in agent.stalls() if stall.culprit
        for seconds, began, ended in blocks
        if began < stall.started_at + stall.duration / 2 < ended and stall.duration > ended - began - 0.03
    ]

def sampled():
    # On a busy machine the watchdog may not have had a CPU all the while.
    watching = loopwatch.installed()
    return not watching or any(stall.in_progress and stall.samples for stall in watching.stalls())

def in_child():
    pid = os.fork()
    if not pid:
        return True
    if (status := os.waitpid(pid, 0)[1]) != 0:
        sys.exit(f"the child ended with {status}")
    return False

async def block(seconds):
    await asyncio.sleep(0.05)
    began = time.time()
    time.sleep(seconds)
    while not sampled() and time.time() < began + 60:
        time.sleep(0.05)
    blocks.append((seconds, began, time.time()))
    await asyncio.sleep(0.05)
"""


def run(script: Script, body: str) -> list[str]:
    done = script(HEAD + body)
    assert (done.returncode, but_stalls(done.stderr)) == (0, [])
    return done.stdout.splitlines()


def test_a_fork_before_any_loop(script: Script) -> None:
    out = run(
        script,
        """
agent = loopwatch.install(prometheus_port=None)
child = in_child()
asyncio.run(block(0.3))
loopwatch.uninstall()
print("child" if child else "parent", stalls(), flush=True)
""",
    )
    assert out == ["child [('block', 0.3)]", "parent [('block', 0.3)]"]


def test_a_fork_between_two_runs_with_threads_going(script: Script) -> None:
    out = run(
        script,
        """
agent = loopwatch.install(prometheus_port=None)
asyncio.run(block(0.4))
child = in_child()
asyncio.run(block(0.3))
name = "child" if child else "parent"
loopwatch.uninstall()
print(name, stalls(), flush=True)
""",
    )
    assert out == ["child [('block', 0.3)]", "parent [('block', 0.4), ('block', 0.3)]"]


def test_a_fork_from_within_a_running_loop(script: Script) -> None:
    out = run(
        script,
        """
forked = []

def fork():  # in a callback: since Python 3.14, a task cannot go on in a forked child
    forked.append(in_child())
    loop.stop()

agent = loopwatch.install(prometheus_port=None)
loop = asyncio.new_event_loop()
loop.call_later(0.3, fork)  # when the dump's timer runs
loop.run_forever()
loop.close()
if forked[0]:
    asyncio.run(block(0.3))
    loopwatch.uninstall()
    print("child", [loop.name for loop in agent.loops()], stalls(), flush=True)
    sys.exit(0)
print("parent", [loop.name for loop in agent.loops()], flush=True)
""",
    )
    assert out == ["child ['main'] [('block', 0.3)]", "parent ['main']"]


def test_a_child_begins_all_counters_from_nothing(script: Script) -> None:
    out = run(
        script,
        """
def sums():
    points = agent.snapshot().points
    active, idle = (point.value for point in points["loop_time"])
    return active + idle, points["iterations"][0].value, points["cpu_time"][0].value

async def busy():
    for _ in range(200):
        await asyncio.sleep(0.002)

agent = loopwatch.install(prometheus_port=None)
asyncio.run(busy())
before = sums()
child, began, computed = in_child(), time.monotonic(), time.thread_time()
asyncio.run(asyncio.sleep(0.01))
ran, turns, cpu = sums()
if child:
    took, computed = time.monotonic() - began, time.thread_time() - computed
    print("child", ran <= took, turns < before[1], cpu <= computed + 0.001, flush=True)
else:
    print("parent", [now >= then for now, then in zip((ran, turns, cpu), before)], flush=True)
""",
    )
    assert out == ["child True True True", "parent [True, True, True]"]


def test_a_child_begins_the_account_of_ourselves_from_nothing(script: Script) -> None:
    """What the parent logged must not silence the child, either."""
    out = run(
        script,
        """
import contextvars, logging

warnings.simplefilter("ignore", RuntimeWarning)
logging.basicConfig(stream=sys.stdout, format="%(message).60s")

class OwnTime(asyncio.SelectorEventLoop):
    def time(self):
        return super().time()

async def nothing():
    pass

async def stall(times):
    for _ in range(times):
        time.sleep(0.03)
        await asyncio.sleep(0.001)

async def lose():
    request.set("r-1")
    await asyncio.get_running_loop().run_in_executor(None, loopwatch.current_work)
    nothing()

def told(*stems):
    points = agent.snapshot().points
    return sorted({stem for stem in stems for point in points.get(stem, ()) if point.value})

def say(who, stems):
    sys.stdout.write(f"{who} {stems}\\n")  # at once, between the lines that the parent's log writes meanwhile
    sys.stdout.flush()

all_stems = "overhead", "dropped", "internal_errors", "log_suppressed", "unwatched", "task_context_lost"
request = contextvars.ContextVar("request")
loopwatch.watch_var(request)
agent = loopwatch.install(prometheus_port=None, stall_threshold=0.02)
with asyncio.Runner(loop_factory=OwnTime) as runner:
    runner.run(nothing())
asyncio.run(stall(15))
asyncio.run(lose())
journal = agent._engine._journal
journal.failure("gc", ValueError("injected"))
journal.dropped += 1
told_in_parent = told(*all_stems)
journal.flush(30)
nothing()  # noticed, but not told of yet
child = in_child()
if child:
    say("child", told(*all_stems))
    asyncio.run(stall(1))
    journal.failure("gc", ValueError("injected"))
loopwatch.uninstall()
if child:
    say("child", told("internal_errors", "log_suppressed", "task_lost"))
else:
    say("parent", told_in_parent)
""",
    )
    every = ["dropped", "internal_errors", "log_suppressed", "overhead", "task_context_lost", "unwatched"]
    of_child = out[out.index("child []") : out.index("child ['internal_errors']")]
    assert [line for line in of_child if "event loop 'main' was blocked for" in line]
    assert [line for line in of_child if line.startswith("loopwatch: gc failed")]
    assert f"parent {every}" in out


def test_the_endpoint_stays_the_parents(script: Script) -> None:
    out = run(
        script,
        """
import urllib.request

def scrape(url):
    return "asyncio_eventloop_delay" in urllib.request.urlopen(url, timeout=10).read().decode()

async def own():
    return await asyncio.to_thread(scrape, agent.prometheus_url)

agent = loopwatch.install(prometheus_port=0)
asyncio.run(asyncio.sleep(0))
url = agent.prometheus_url
if in_child():
    open_files = [os.readlink(link) for link in map("/proc/self/fd/{}".format, os.listdir("/proc/self/fd"))
                  if os.path.islink(link)]
    print("child", agent.prometheus_url, [name for name in open_files if name.startswith("socket:")])
    print("child", asyncio.run(own()), agent.prometheus_url != url, flush=True)
else:
    print("parent", scrape(url), agent.prometheus_url == url, flush=True)
""",
    )
    assert out == ["child None []", "child True True", "parent True True"]


def test_children_of_multiprocessing_are_watched(script: Script) -> None:
    out = run(
        script,
        """
import multiprocessing

def child(number):
    asyncio.run(block(0.3))
    loopwatch.uninstall()
    return stalls()

agent = loopwatch.install(prometheus_port=None)
asyncio.run(block(0.4))
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(child, range(2)), flush=True)
""",
    )
    assert out == ["[[('block', 0.3)], [('block', 0.3)]]"]


def test_nothing_is_taken_along_after_uninstall(script: Script) -> None:
    out = run(
        script,
        """
agent = loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0))
loopwatch.uninstall()
if in_child():
    asyncio.run(block(0.3))
    print([loop.iterations is None for loop in agent.loops()], stalls(), flush=True)
""",
    )
    assert out == ["[False] []"]


def test_an_uninstall_in_another_thread_during_a_fork(script: Script) -> None:
    """The hooks of others take time. Whoever waits meanwhile for what ours hold gets it afterwards."""
    out = run(
        script,
        """
import faulthandler, threading

def slow():
    if threading.current_thread() is forker:
        in_fork.set()
        uninstalling.wait(30)
        time.sleep(0.1)  # in which the other thread comes to wait, or does not

def fork():
    if not (pid := os.fork()):
        faulthandler.dump_traceback_later(60)  # which waits for ever if ours is held still
        faulthandler.cancel_dump_traceback_later()
        print("child", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)

def uninstall():
    uninstalling.set()
    loopwatch.uninstall()

in_fork, uninstalling = threading.Event(), threading.Event()
os.register_at_fork(before=slow)  # earlier than ours: called after it
agent = loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0.05))
forker = threading.Thread(target=fork, daemon=True)
forker.start()
in_fork.wait(30)
other = threading.Thread(target=uninstall, daemon=True)
other.start()
for thread in (forker, other):
    thread.join(25)
    print("ended" if not thread.is_alive() else "hangs", flush=True)
faulthandler.cancel_dump_traceback_later()
print("parent", flush=True)
os._exit(0)
""",
    )
    assert out == ["child", "ended", "ended", "parent"]


def test_tasks_are_counted_afresh(script: Script) -> None:
    out = run(
        script,
        """
agent = loopwatch.install(prometheus_port=None)

async def main(count):
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(count)))

def counted():
    points = {point.labels: point.value for point in agent.snapshot().points["task_created"]}
    return points["__main__.main",], len([task for task in agent.tasks() if task.coroutine == "sleep"])

asyncio.run(main(500))
counted()
child = in_child()
asyncio.run(main(20))
print("child" if child else "parent", *counted(), flush=True)
""",
    )
    assert out == ["child 20 20", "parent 520 520"]


def test_a_fork_beside_a_collection_in_another_thread(script: Script) -> None:
    """The collection never ends in the child, where lost tasks would wait for that."""
    out = run(
        script,
        """
import gc, threading
agent = loopwatch.install(prometheus_port=None)
collecting, forked = threading.Event(), threading.Event()

def slowly(phase, info):
    if threading.current_thread() is collector and not collecting.is_set():
        collecting.set()
        forked.wait(20)

collector = threading.Thread(target=gc.collect)
gc.callbacks.append(slowly)
collector.start()
collecting.wait(20)
child = in_child()
if not child:
    forked.set()
    collector.join()
print("child" if child else "parent", agent._engine._pauses.running_since, flush=True)
loopwatch.uninstall()
""",
    )
    assert out == ["child None", "parent None"]


NO_WARNING = """
warnings.resetwarnings()
warnings.simplefilter("always")  # to fork beside threads warns, since Python 3.12; as an error that is lost
from loopwatch import _threads
_threads.WITHIN = 30.0  # however slow the machine is

def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("loopwatch"))
"""


def test_a_fork_in_a_program_of_one_thread_warns_of_nothing(script: Script) -> None:
    """Its only further threads are ours, and the timer of the dump, which Python does not know."""
    out = run(
        script,
        NO_WARNING
        + """
import threading
from loopwatch._watchdog import thread

thread.CHORES_EVERY = 0.05  # seconds until the timer is armed, instead of one
agent = loopwatch.install(prometheus_port=0)
asyncio.run(block(0.3))
before = threads()
for _ in range(20):
    pid = os.fork()
    if not pid:
        os._exit(len(threads()) + len(os.listdir("/proc/self/task")) - 1)
    if (status := os.waitpid(pid, 0)[1]) or threads() != before:
        print(status, threads())

async def main():
    armed = agent._engine._hold_dump._timer
    for _ in range(3):
        while not armed._armed:
            await asyncio.sleep(0.01)
        in_child() and os._exit(0)

asyncio.run(main())
print(before)
""",
    )
    assert out == ["['loopwatch-console', 'loopwatch-endpoint', 'loopwatch-journal', 'loopwatch-watchdog']"]


WARNED = """
import asyncio, os, pty, subprocess, sys, threading, warnings
import loopwatch
from loopwatch import _threads

_threads.WITHIN = 30.0  # however slow the machine is
filters = list(warnings.filters)
seen = []  # what is an error is lost by 3.12 and 3.13, so it is looked at where it is made
warnings.showwarning = lambda message, *_: seen.append(str(message).partition("multi-threaded")[2])

def fork(way=os.fork):
    pid = way()
    if isinstance(pid, tuple):
        pid, terminal = pid
    if not pid:
        os._exit(len(os.listdir("/proc/self/task")) - 1)
    status = os.waitpid(pid, 0)[1]
    if way is not os.fork:
        os.close(terminal)
    return status

def forks():
    return fork(), fork(pty.fork), warnings.filters == filters

def ours():
    return any(thread.name == "loopwatch-watchdog" for thread in threading.enumerate())

def in_a_callback(loop_run_by):
    async def main():
        here = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: here.set_result(forks()))
        return await here
    return loop_run_by(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")
@pytest.mark.parametrize("action", ["error", "always"])
def test_no_fork_of_ours_alone_warns_whoever_asks_for_errors(script: Script, action: str) -> None:
    """In a loop, between two and after the last one; and all filters are the program's again."""
    done = script(
        WARNED
        + """
loopwatch.install(prometheus_port=0)
print(forks(), ours())
print(in_a_callback(asyncio.run), forks(), ours())
print(subprocess.run(["true"], preexec_fn=os.getpid).returncode, in_a_callback(asyncio.run), ours())
subprocess.run(["true"], preexec_fn=os.getpid)
loopwatch.uninstall()
print(forks(), ours(), seen)
""",
        "-W",
        f"{action}::DeprecationWarning",
    )
    assert done.stdout.splitlines() == [
        "(0, 0, True) False",
        "(0, 0, True) (0, 0, True) True",
        "0 (0, 0, True) True",
        "(0, 0, True) False []",
    ]
    assert (done.returncode, but_stalls(done.stderr)) == (0, [])


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")
def test_a_fork_beside_a_thread_of_the_programs_warns_as_ever(script: Script) -> None:
    """Also right after forks that were ours alone."""
    told = []
    for install in ("", "loopwatch.install(prometheus_port=0)"):
        done = script(
            f"""{WARNED}
{install}
in_a_callback(asyncio.run)
subprocess.run(["true"], preexec_fn=os.getpid)
theirs = threading.Event()
threading.Thread(target=theirs.wait).start()
in_a_callback(asyncio.run)
forks()
theirs.set()
print(seen)
""",
            "-W",
            "always::DeprecationWarning",
        )
        assert (done.returncode, but_stalls(done.stderr)) == (0, [])
        told.append(done.stdout)
    assert told[0] == told[1]
    assert told[0].count("may lead to deadlocks") == (4 if sys.version_info >= (3, 12) else 0)


def test_the_parent_goes_on_with_all_it_knew(script: Script) -> None:
    """A stall goes on over several forks: its samples are kept, and it is logged once, as are all lines."""
    out = run(
        script,
        """
import logging, threading
from loopwatch._watchdog import stalls as watched

watched.STILL = 0.5
lines = []

class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())

def overhead():
    return {point.labels: point.value for point in agent.snapshot().points["overhead"]}

def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)

async def stalled():
    release.wait(60)

logging.getLogger("loopwatch").addHandler(Lines())
logging.getLogger("loopwatch").propagate = False
release, told = threading.Event(), threading.Event()
agent = loopwatch.install(prometheus_port=0)
other = threading.Thread(target=asyncio.run, args=[stalled()], name="other")
other.start()
while not any("still blocked" in line or "has been blocked" in line for line in list(lines)):
    time.sleep(0.01)
fell, samples, known = [], [], overhead()
for number in range(10):
    agent._engine._journal.say(logging.WARNING, "line %d", number)
    fork()
    [stall] = [stall for stall in agent.stalls() if stall.in_progress and stall.loop_name == "other"]
    samples.append(stall.samples)
    now = overhead()
    fell += [labels for labels in known if now[labels] < known[labels]]
    known = now
release.set()
other.join()
loopwatch.uninstall()
about = [line for line in lines if "__main__.stalled" in line]  # on a busy machine there are others
print(fell, samples == sorted(samples), samples[0] > 0)
print([line for line in lines if line.startswith("line ")] == [f"line {number}" for number in range(10)])
[stall] = [stall for stall in agent.stalls() if stall.culprit and stall.culprit.function == "stalled"]
print(len(about), stall.loop_name, stall.duration > 0.5)
""",
    )
    assert out == ["[] True True", "True", "2 other True"]


def test_a_fork_does_not_wait_for_a_log_that_hangs(script: Script) -> None:
    out = run(
        script,
        """
import logging, threading

def hang(record):  # as a filter: one that hangs in a handler does so with the handler's lock
    entered.set()
    release.wait(60)
    written.append(record.getMessage())
    return False

entered, release, written = threading.Event(), threading.Event(), []
logging.getLogger("loopwatch").addFilter(hang)
agent = loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0.01))
journal = agent._engine._journal
for number in range(3):
    journal.say(logging.WARNING, "line %d", number)
entered.wait(60)
[before] = [thread for thread in threading.enumerate() if thread.name == "loopwatch-journal"]
pid = os.fork()  # with the handler still hanging
if not pid:
    os._exit(len(written))
print(os.waitpid(pid, 0)[1], len(written), before.is_alive())
journal.say(logging.WARNING, "line 3")
release.set()
loopwatch.uninstall()
print([line for line in written if line.startswith("line")])
""",
    )
    assert out == ["0 0 True", "['line 0', 'line 1', 'line 2', 'line 3']"]


def test_a_child_that_runs_no_loop_gets_no_thread_socket_or_file(script: Script) -> None:
    out = run(
        script,
        """
import concurrent.futures, multiprocessing, threading
from pathlib import Path

def of_child(_):
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    ours = [name for name in links if "loopwatch" in name or "epoll" in name]
    sockets = [name for name in links if "socket" in name]
    return threading.active_count(), ours, sockets

os.environ["XDG_RUNTIME_DIR"] = os.environ["TMPDIR"]
agent = loopwatch.install(prometheus_port=PORT)
asyncio.run(block(0.3))
place = Path(os.environ["TMPDIR"], "loopwatch")
before = sorted(os.listdir(place)), len(list(Path(os.environ["TMPDIR"]).glob("*.dump")))
context = multiprocessing.get_context("fork")
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    print(set(map(str, pool.map(of_child, range(4)))))
with context.Pool(2) as pool:
    print(set(map(str, pool.map(of_child, range(4)))))
after = sorted(os.listdir(place)), len(list(Path(os.environ["TMPDIR"]).glob("*.dump")))
print(before == after, len(before[0]))
""".replace("PORT", str(free_port())),
    )
    assert out == ['{"(1, [], [])"}'.replace('"', "'")] * 2 + ["True 3"]


def test_nothing_is_done_at_a_fork_after_uninstall_nor_by_subprocess(script: Script) -> None:
    out = run(
        script,
        """
import subprocess
from loopwatch._engine import Engine

done = []
for name in ("before_fork", "after_fork_in_parent", "after_fork_in_child"):
    def noting(engine, name=name, original=getattr(Engine, name)):
        done.append(name)
        original(engine)
    setattr(Engine, name, noting)

agent = loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.sleep(0))
subprocess.run([sys.executable, "-c", ""], check=True)
print(done, flush=True)
if in_child():
    print(done, flush=True)
    os._exit(0)
print(done, flush=True)
done.clear()
loopwatch.uninstall()
if in_child():
    os._exit(len(done))
print(done)
""",
    )
    assert out == [
        "[]",
        "['before_fork', 'after_fork_in_child']",
        "['before_fork', 'after_fork_in_parent']",
        "[]",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="its thread states come from /proc")
def test_what_the_kernel_says_of_a_childs_loop_is_known(script: Script) -> None:
    """Before CPython 3.14 the main thread of a child goes by its parent's id."""
    out = run(
        script,
        """
def known():
    # What is read of the loop's own thread, while it sleeps.
    evidence = max(agent.stalls(), key=lambda stall: stall.samples).evidence
    states = sum(evidence[f"samples_{state}"] for state in ("running", "sleeping", "in_disk_wait"))
    return states > 0, "runqueue_s" in evidence

agent = loopwatch.install(prometheus_port=None)
asyncio.run(block(0.5))
print("parent", known(), flush=True)
if in_child():
    asyncio.run(block(0.5))
    print("child", known(), flush=True)
    loopwatch.uninstall()
    os._exit(0)
""",
    )
    said = dict(line.split(" ", 1) for line in out)
    assert said["child"] == said["parent"]
    assert said["child"].startswith("(True, ")
