"""``loopwatch run`` from outside: real programs, which must not notice, and a few that must be refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch._cli.run import main, watched
from loopwatch._settings import Settings
from tests.pools.servers import free_port

TIMEOUT = 120.0
PACKAGES = Path(loopwatch.__file__).parent.parent

SELF_PORTRAIT = """
import json, os, sys
print(json.dumps({
    "pid": os.getpid(), "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__,
    "executable": sys.executable, "flags": list(sys.flags), "stdin": sys.stdin.read(),
    "sitecustomize": getattr(sys.modules.get("sitecustomize"), "__file__", None),
    "loopwatch": "loopwatch" in sys.modules,
    "environ": {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LOOPWATCH_RUN")},
}))
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, loopwatch importable, no endpoint unless a test wants one.

    Nor a word of stalls, which a busy machine may cause in any program.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGES))
    monkeypatch.setenv("LOOPWATCH_PROMETHEUS_PORT", "none")
    monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD", "60")
    return tmp_path


def program(text: str, name: str = "app.py") -> str:
    Path(name).write_text(textwrap.dedent(text))
    return name


def python(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this interpreter to its end."""
    return subprocess.run(
        [sys.executable, *words],
        **{"input": "", "capture_output": True, "text": True, "timeout": TIMEOUT, "check": False, **options},
    )


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``loopwatch run`` to its end."""
    return python("-m", "loopwatch", "run", *words, **options)


@pytest.mark.parametrize("words", [["app.py", "a", "--b"], ["-m", "app", "a", "--", "-c"], ["-u", "app.py"]])
def test_a_program_finds_everything_as_without_the_agent(words: list[str]) -> None:
    program(SELF_PORTRAIT)
    bare, watched = python(*words, input="in"), run("--", *words, input="in")
    assert (watched.returncode, watched.stderr) == (bare.returncode, bare.stderr) == (7, "")
    same = {"pid": 0}
    assert json.loads(watched.stdout) | same == json.loads(bare.stdout) | same


def test_it_is_the_same_process(directory: Path) -> None:
    program("import os; print(os.getpid())")
    with subprocess.Popen(
        [sys.executable, "-m", "loopwatch", "run", "--", "app.py"], stdout=subprocess.PIPE, text=True
    ) as process:
        out, _ = process.communicate(timeout=TIMEOUT)
    assert out.strip() == str(process.pid)


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[str]]:
    """A watched program that has said that it waits for a signal."""
    program(
        """
        import asyncio

        async def main():
            print("ready", flush=True)
            await asyncio.get_running_loop().create_future()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    command = [sys.executable, "-m", "loopwatch", "run", "--", "app.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_signal_kills_as_without_the_agent(waiting: subprocess.Popen[str]) -> None:
    waiting.terminate()
    assert waiting.wait(TIMEOUT) == -signal.SIGTERM


def test_an_interrupt_reaches_the_program(waiting: subprocess.Popen[str]) -> None:
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=TIMEOUT)[0] == "interrupted\n"
    assert waiting.returncode == 0


LOOPS = """
import asyncio, loopwatch

async def main():
    return [loop.name for loop in loopwatch.install().loops()]

print(asyncio.run(main()))
"""


def test_a_program_with_a_line_of_its_own_gets_the_agent_that_is_there() -> None:
    done = run("--", program(LOOPS))
    assert (done.stdout, done.stderr) == ("['main']\n", "")


def test_its_loops_are_on_metrics() -> None:
    program(
        """
        import asyncio, os, urllib.request

        def scrape():
            url = f"http://127.0.0.1:{os.environ['LOOPWATCH_PROMETHEUS_PORT']}/metrics"
            return urllib.request.urlopen(url).read().decode()

        async def main():
            return await asyncio.to_thread(scrape)

        print([line for line in asyncio.run(main()).splitlines() if line.startswith("asyncio_eventloop")])
        """
    )
    done = run("--prometheus-port", str(free_port()), "--", "app.py")
    assert 'asyncio_eventloop_info{asyncio_eventloop_name="main"' in done.stdout
    assert done.stderr == ""


def test_the_agent_is_there_once_asyncio_is() -> None:
    program(
        """
        import importlib.util, sys
        assert importlib.util.find_spec("asyncio")  # to look is not to import
        before = "loopwatch" in sys.modules
        import asyncio
        hooks = [hook for hook in sys.meta_path if type(hook).__module__ == "loopwatch_import_hook"]
        print(before, "loopwatch" in sys.modules, hooks, vars(asyncio.__spec__.loader).keys())
        """
    )
    assert run("--", "app.py").stdout == "False True [] dict_keys(['name', 'path'])\n"


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, 'child.py'], check=True)",
        "multiprocessing.get_context('spawn').Process(target=child.work).start()",
        "multiprocessing.get_context('forkserver').Process(target=child.work).start()",
        "multiprocessing.get_context('fork').Process(target=child.work).start()",
        "os.execv(sys.executable, [sys.executable, 'child.py'])",
    ],
)
def test_children_are_watched(start: str) -> None:
    program(
        """
        import asyncio, sys

        def work():
            print("loopwatch" in sys.modules, flush=True)

        if __name__ == "__main__":
            work()
        """,
        "child.py",
    )
    program(f"import multiprocessing, os, subprocess, sys, child\nif __name__ == '__main__':\n    {start}\n")
    done = run("--", "app.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_the_kernel_of_a_notebook_is_not_watched_unless_it_is_the_program(directory: Path) -> None:
    (directory / "ipykernel").mkdir()
    program("from ipykernel.kernelapp import main; main()", "ipykernel_launcher.py")
    program("", "ipykernel/__init__.py")
    program(
        """
        import asyncio, sys

        def main():
            print("loopwatch" in sys.modules)
        """,
        "ipykernel/kernelapp.py",
    )
    program(
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'ipykernel_launcher'])", "server.py"
    )
    assert run("--", "server.py").stdout == "False\n"
    assert run("--", "-m", "ipykernel_launcher").stdout == "True\n"


def test_a_sitecustomize_of_the_users_still_takes_effect(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "site").mkdir()
    program("import sys; sys.customized = __file__", "site/sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["site", str(PACKAGES)]))
    program("import sys, sitecustomize; print(sys.customized, sitecustomize.__file__)")
    file = directory / "site" / "sitecustomize.py"
    assert run("--", "app.py").stdout == f"{file} {file}\n"


def test_a_sitecustomize_that_fails_is_reported_as_without_the_agent(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("raise LookupError('broken')", "sitecustomize.py")
    program("print('ran')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(directory), str(PACKAGES)]))
    bare, watched = python("app.py"), run("--", "app.py")
    assert watched.stdout == bare.stdout == "ran\n"
    assert "LookupError: broken" in bare.stderr
    assert watched.stderr == bare.stderr * 2  # loopwatch run is a Python of its own


@pytest.mark.parametrize("environ", [{}, {"PYTHONPATH": ""}])
def test_no_pythonpath_does_not_become_the_current_directory(environ: dict[str, str]) -> None:
    """An empty entry of PYTHONPATH would be that."""
    assert os.pathsep not in watched(environ)["PYTHONPATH"]


def test_options_and_environment_are_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPWATCH_SERVICE_NAME", "shop")
    monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD", "0.2")
    program("import os; print(*(os.environ['LOOPWATCH_' + n] for n in ('SERVICE_NAME', 'STALL_THRESHOLD')))")
    assert run("--stall-threshold", "0.3", "--", "app.py").stdout == "shop 0.3\n"
    assert run("--stall-threshold=0.3", "app.py").stdout == "shop 0.3\n"


def test_every_setting_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert [
        field.name for field in fields(Settings) if "--" + field.name.replace("_", "-") not in shown
    ] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--stall-threshold", "abc", "--", "app.py"], "--stall-threshold='abc': not a number. "),
        (["--prometheus-port", "70000", "app.py"], "--prometheus-port=70000: no such port. "),
        (["--", "nothing-of-this-name"], "nothing-of-this-name: there is no such program. "),
        (["--", "sh", "-c", "echo started"], "/sh: not a Python program (it is no script). "),
        (["--", sys.executable, "-I", "app.py"], " -I ignores PYTHONPATH, "),
    ],
)
def test_what_cannot_work_is_one_line_and_nothing_started(words: list[str], line: str) -> None:
    program("print('started')")
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("loopwatch run: ")
    assert line in done.stderr


@pytest.mark.parametrize("words", [[], ["--"], ["--no-such-option", "1", "--", "app.py"]])
def test_a_wrong_command_line_shows_the_right_one(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: loopwatch run [options] -- PROGRAM ARGS" in done.stderr


def test_a_bad_setting_of_the_environment_is_named_as_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD", "abc")
    assert run("--", program("")).stderr.startswith(
        "loopwatch run: LOOPWATCH_STALL_THRESHOLD='abc': not a number"
    )


def test_an_unknown_setting_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPWATCH_STALL_TRESHOLD", "1")
    program("import asyncio, subprocess, sys; subprocess.run([sys.executable, '-c', 'import asyncio'])")
    done = run("--", "app.py")
    assert done.stderr.count("did you mean LOOPWATCH_STALL_THRESHOLD?") == 1


def test_disabled_means_that_the_program_runs_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPWATCH_DISABLED", "1")
    program("import asyncio, os, sys; print('loopwatch' in sys.modules, os.environ['PYTHONPATH'])")
    assert run("--", "app.py").stdout == f"False {PACKAGES}\n"


def test_a_port_held_by_another_program_is_said_once_and_the_program_runs() -> None:
    program(
        """
        import asyncio, subprocess, sys
        asyncio.run(asyncio.sleep(0))
        if len(sys.argv) == 1:
            subprocess.run([sys.executable, __file__, "child"], check=True)
            print("ran")
        """
    )
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        done = run("--prometheus-port", str(port), "--", "app.py")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.count("\n") == 1
    assert f"no /metrics on 127.0.0.1:{port}: Address already in use. The program runs" in done.stderr


def test_a_port_held_by_a_process_of_the_same_run_is_not_worth_a_word() -> None:
    program(
        """
        import asyncio, subprocess, sys

        async def main():
            if len(sys.argv) == 1:
                await asyncio.to_thread(subprocess.run, [sys.executable, __file__, "child"], check=True)

        asyncio.run(main())
        """
    )
    done = run("--prometheus-port", str(free_port()), "--", "app.py")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_agent_that_cannot_start_costs_the_program_one_line() -> None:
    program("import asyncio; asyncio.run(asyncio.sleep(0)); print('ran')")
    # Past the check of ``loopwatch run``: a program that changes the environment its children get.
    program(
        """
        import os, subprocess, sys
        os.environ["LOOPWATCH_STALL_THRESHOLD"] = "abc"
        subprocess.run([sys.executable, "app.py"], check=True)
        """,
        "parent.py",
    )
    done = run("--", "parent.py")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "ran\n", 1)
    assert done.stderr.startswith("loopwatch run: the program runs unwatched: ConfigurationError(")


def test_a_broken_bootstrap_costs_the_program_one_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it cost the sitecustomize that the program would have had."""
    shutil.copytree(PACKAGES / "loopwatch" / "_cli" / "bootstrap", "alone")  # no import hook where it looks
    (directory / "site").mkdir()
    program("print('customized')", "site/sitecustomize.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["alone", "site"]))
    done = python(program("import asyncio; print('ran')"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "customized\nran\n", 1)
    assert done.stderr.startswith("loopwatch run: the program runs unwatched: FileNotFoundError(")


def test_a_child_on_an_interpreter_without_loopwatch_runs_unwatched_in_silence(directory: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "other"], check=True)
    program("import asyncio, sys; print('loopwatch' in sys.modules)", "child.py")
    program(
        """
        import os, subprocess
        ours, *theirs = os.environ["PYTHONPATH"].split(os.pathsep)
        environ = {**os.environ, "PYTHONPATH": ours}
        subprocess.run(["other/bin/python", "child.py"], env=environ, check=True)
        """
    )
    done = run("--", "app.py")
    assert (done.stdout, done.stderr) == ("False\n", "")
