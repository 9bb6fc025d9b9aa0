"""What ``loopwatch run`` makes of the words it is given, before anything is started."""

import os
import shlex
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from loopwatch._cli.run_program import CannotRunError, resolve


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory and a PATH with nothing on it but ``bin`` inside it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def write(path: Path, text: str | bytes, mode: int = 0o755) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.fixture
def python(directory: Path) -> Path:
    """An executable that looks like an interpreter."""
    return write(directory / "bin" / "python3.12", b"\x7fELF")


@pytest.mark.parametrize("words", [["-m", "pkg", "-x"], ["-c", "pass"], ["-X", "dev", "-m", "pkg"]])
def test_options_of_python_go_to_this_interpreter(words: list[str]) -> None:
    program = resolve(words)
    assert program.interpreter == program.executable == sys.executable
    assert program.argv == (sys.executable, *words)


@pytest.mark.parametrize("name", ["python", "python3", "python3.13", "python3.14t", "pypy3"])
def test_an_interpreter_by_name_keeps_the_name_it_was_called_by(directory: Path, name: str) -> None:
    path = write(directory / "bin" / name, b"\x7fELF")
    program = resolve([name, "app.py"])
    assert (program.executable, program.interpreter, program.argv) == (str(path), str(path), (name, "app.py"))


@pytest.mark.parametrize("name", ["app.py", "./app.py"])
def test_a_file_of_python_goes_to_this_interpreter(directory: Path, name: str) -> None:
    write(directory / "app.py", "pass", mode=0o644)
    assert resolve([name, "x"]).argv == (sys.executable, name, "x")


def test_an_executable_file_of_python_without_a_first_line_goes_to_this_interpreter(directory: Path) -> None:
    write(directory / "app.py", "pass")
    assert resolve(["./app.py"]).argv == (sys.executable, "./app.py")


def test_a_directory_and_an_archive_with_a_main_go_to_this_interpreter(directory: Path) -> None:
    (directory / "app").mkdir()
    write(directory / "app" / "__main__.py", "pass")
    zipapp.create_archive(directory / "app", directory / "archive")
    assert resolve(["app"]).argv == (sys.executable, "app")
    assert resolve(["archive"]).argv == (sys.executable, "archive")


def test_an_executable_archive_runs_as_its_first_line_says(directory: Path, python: Path) -> None:
    (directory / "app").mkdir()
    write(directory / "app" / "__main__.py", "pass")
    zipapp.create_archive(directory / "app", directory / "app.pyz", interpreter=str(python))
    assert resolve(["./app.pyz"]).interpreter == str(python)


@pytest.mark.parametrize(
    "first_lines",
    [
        "#!{python}",
        "#! {python} -u",
        "#!/usr/bin/env python3.12",
        "#!/usr/bin/env -S python3.12 -u",
        "#!/usr/bin/env -S A=1 python3.12 -u",
        "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\" #'''",
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3.12' \"$0\" \"$@\"\n' '''",
    ],
)
def test_a_console_script_runs_as_itself_on_the_interpreter_it_names(
    directory: Path, python: Path, first_lines: str
) -> None:
    path = write(directory / "bin" / "serve", first_lines.format(python=python) + "\nimport app\n")
    program = resolve(["serve", "--port", "0"])
    assert (program.executable, program.argv) == (str(path), ("serve", "--port", "0"))
    assert program.interpreter == str(python)


def test_the_interpreter_of_a_trampoline_may_have_blanks_in_its_path(directory: Path) -> None:
    (directory / "my venv").mkdir()
    python = write(directory / "my venv" / "python", b"\x7fELF")
    write(directory / "bin" / "serve", f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''")
    assert resolve(["serve"]).interpreter == str(python)


def test_a_launcher_of_windows_names_its_interpreter_before_the_archive(
    directory: Path, python: Path
) -> None:
    write(directory / "bin" / "serve.exe", b"MZ" + bytes(10_000) + f"#!{python}\r\n".encode() + b"PK\x03\x04")
    assert resolve(["serve.exe"]).interpreter == str(python)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"\x7fELF", "it is no script"),
        ("#!/bin/sh\nexec python app.py\n", "its first line names /bin/sh"),
        ("#!/usr/bin/env node\n", "its first line names node"),
        ("#!/usr/bin/env -i python3\n", "its first line names -i python3"),
        ("#!\n", "its first line names nothing"),
    ],
)
def test_what_is_not_python_is_refused_with_what_was_seen(
    directory: Path, content: str | bytes, seen: str
) -> None:
    path = write(directory / "bin" / "serve", content)
    with pytest.raises(CannotRunError) as refused:
        resolve(["serve"])
    assert f"{path}: not a Python program ({seen})" in str(refused.value)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(CannotRunError, match="serve: there is no such program"):
        resolve(["serve"])


def test_a_script_whose_interpreter_is_gone_is_refused(directory: Path) -> None:
    write(directory / "bin" / "serve", "#!/gone/bin/python\n")
    with pytest.raises(CannotRunError, match="its interpreter, /gone/bin/python, does not exist"):
        resolve(["serve"])


@pytest.mark.parametrize(
    ("options", "letter"),
    [
        (["-I", "app.py"], "I"),
        (["-E", "-m", "app"], "E"),
        (["-S", "app.py"], "S"),
        (["-uE", "app.py"], "E"),
        (["-Im", "app"], "I"),
        (["-X", "dev", "-I", "app.py"], "I"),
        (["-Wignore", "--check-hash-based-pycs", "never", "-I", "app.py"], "I"),
    ],
)
def test_an_interpreter_that_locks_the_agent_out_is_refused(options: list[str], letter: str) -> None:
    with pytest.raises(CannotRunError, match=f"python -{letter} .* comes in. Leave -{letter} out"):
        resolve(options).check()


@pytest.mark.parametrize(
    "words",
    [
        ["-u", "app.py", "-I"],
        ["-m", "app", "-E"],
        ["-c", "pass", "-S"],
        ["-mSEI"],
        ["-W", "I", "-XE", "app.py"],
        ["-", "-I"],
    ],
)
def test_the_options_of_the_program_are_its_own(words: list[str]) -> None:
    assert resolve(words).options.isdisjoint("IES")


def test_a_first_line_that_locks_the_agent_out_is_refused(directory: Path, python: Path) -> None:
    write(directory / "bin" / "serve", f"#!{python} -sE\n")
    with pytest.raises(CannotRunError, match=r"bin/serve: python -E ignores PYTHONPATH"):
        resolve(["serve"]).check()


def test_an_interpreter_without_loopwatch_is_refused_with_the_remedy(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "other"], check=True)
    python = directory / "other" / "bin" / "python"
    write(directory / "bin" / "serve", f"#!{python}\n")
    with pytest.raises(CannotRunError) as refused:
        resolve(["serve"]).check()
    assert str(refused.value) == (
        f"{directory}/bin/serve: its interpreter, {python} cannot import loopwatch (ModuleNotFoundError: "
        f"No module named 'loopwatch'). Install it there: {python} -m pip install loopwatch"
    )


def test_a_checkout_in_the_current_directory_does_not_count_as_installed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "other"], check=True)
    write(directory / "loopwatch.py", "")
    python = os.fspath(directory / "other" / "bin" / "python")
    with pytest.raises(
        CannotRunError, match=f"^{python} cannot import loopwatch .*No module named 'loopwatch'"
    ):
        resolve([python, "app.py"]).check()
