"""What the words after ``loopwatch run --`` start, and which Python interpreter will run it.

The agent comes in through the interpreter's start-up, so before anything is started it must be known which
interpreter that is, and that it lets the agent in.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loopwatch._errors import LoopwatchError
from loopwatch._settings import DISABLED

_INTERPRETER = re.compile(r"(python|pypy)w?\d*(\.\d+)?t?d?(\.exe)?", re.IGNORECASE)
_SOURCE = frozenset({".py", ".pyw", ".pyc", ".pyz", ".pyzw"})

_TRAMPOLINE = re.compile(r"^'''exec' (.+?) \"\$0\" \"\$@\"", re.MULTILINE)
"""How installers start a script whose interpreter's path is too long for a shebang line, or contains blanks:
the line after ``#!/bin/sh`` is both a shell command and the start of a Python string."""

_BESIDE_SCRIPT = '"$(dirname -- "$(realpath -- "$0")")"'
"""The script's own directory in that line, in relocatable environments."""

_LAUNCHER = re.compile(rb"#![^\r\n]+\r?\n(?=PK\x03\x04)")
"""The shebang line within the ``.exe`` that installers make of a script on Windows."""

_LOCKED_OUT = {
    "I": "ignores PYTHONPATH, through which the agent comes in",
    "E": "ignores PYTHONPATH, through which the agent comes in",
    "S": "does not import sitecustomize, through which the agent comes in",
}


class CannotRunError(LoopwatchError):
    """The program cannot be run under the agent; nothing has been started."""


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program as it will be handed to the operating system."""

    executable: str
    argv: tuple[str, ...]
    interpreter: str
    """The Python that will run it: ``executable`` itself, or the one its first line names."""
    options: frozenset[str]
    """The single-letter options that the interpreter gets."""

    def check(self) -> None:
        """Raise CannotRunError unless the interpreter lets the agent in and has it installed."""
        for option in sorted(self.options & _LOCKED_OUT.keys()):
            raise CannotRunError(
                f"{self.executable}: python -{option} {_LOCKED_OUT[option]}. "
                f"Leave -{option} out, or call loopwatch.install() in the program."
            )
        # -c puts the current directory on the path, where a checkout would pass for an installation.
        code = "import sys; sys.path[:] = filter(None, sys.path); import loopwatch"
        done = subprocess.run(  # noqa: S603  (it is about to be run anyway)
            [self.interpreter, *(["-s"] if "s" in self.options else []), "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, DISABLED: "1"},
        )
        if done.returncode:
            reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            of = "" if self.executable == self.interpreter else f"{self.executable}: its interpreter, "
            raise CannotRunError(
                f"{of}{self.interpreter} cannot import loopwatch ({reason}). "
                f"Install it there: {self.interpreter} -m pip install loopwatch"
            )


def resolve(words: Sequence[str]) -> Program:
    """Find out which program ``words`` start. Raises CannotRunError if it is not a Python program."""
    name = words[0]
    if name.startswith("-"):  # -m MODULE, -c CODE: what this very interpreter would take
        return _interpreted(sys.executable, (sys.executable, *words))
    found = shutil.which(name)
    if found is not None and _INTERPRETER.fullmatch(Path(found).name):
        return _interpreted(found, words)
    command = _first_line(Path(found)) if found is not None else None
    if found is not None and command is not None:
        return _script(found, words, command)
    if _is_source(Path(name)):
        return _interpreted(sys.executable, (sys.executable, *words))
    if found is None:
        raise CannotRunError(f"{name}: there is no such program. Give a file, or a command on PATH.")
    raise _not_python(found, "it is no script")


def _interpreted(interpreter: str, argv: Sequence[str]) -> Program:
    return Program(interpreter, tuple(argv), interpreter, frozenset(_options(argv[1:])))


def _script(path: str, words: Sequence[str], command: Sequence[str]) -> Program:
    """Return the program of a script whose first line names ``command``."""
    if not command or not _INTERPRETER.fullmatch(Path(command[0]).name):
        raise _not_python(path, f"its first line names {shlex.join(command) or 'nothing'}")
    interpreter = shutil.which(command[0])
    if interpreter is None:
        raise CannotRunError(
            f"{path}: its interpreter, {command[0]}, does not exist. Reinstall the program, "
            f"or name the interpreter: loopwatch run -- python {path}"
        )
    return Program(path, tuple(words), interpreter, frozenset(_options(command[1:])))


def _not_python(path: str, seen: str) -> CannotRunError:
    return CannotRunError(
        f"{path}: not a Python program ({seen}). Name the Python program that it starts: "
        "a script, a console script, python ..., or -m MODULE."
    )


def _is_source(path: Path) -> bool:
    """Whether ``python PATH`` would run it."""
    if path.is_dir():
        return (path / "__main__.py").is_file()
    return path.is_file() and (path.suffix in _SOURCE or zipfile.is_zipfile(path))


def _first_line(path: Path) -> list[str] | None:
    """Return the command of a script's first line, seen through ``env`` and ``sh``; None if it has none."""
    with path.open("rb") as file:
        head = file.read(4096)
        launcher = _LAUNCHER.search(head + file.read()) if head.startswith(b"MZ") else None
    text = (launcher.group() if launcher else head).decode("utf-8", "surrogateescape")
    if not text.startswith("#!"):
        return None
    line = text[2:].splitlines()[0].strip()
    trampoline = _TRAMPOLINE.search(text)
    if trampoline and line.split()[:1] == ["/bin/sh"]:
        line = trampoline.group(1).replace(_BESIDE_SCRIPT, shlex.quote(str(path.resolve().parent)))
    try:
        command = shlex.split(line)
    except ValueError:  # the kernel takes the line literally: quotes mean nothing to it
        command = line.split()
    return _behind_env(command) if command and Path(command[0]).name == "env" else command


def _behind_env(command: Sequence[str]) -> list[str]:
    """Drop ``env``, its ``-S`` and its assignments; its other options may undo what the agent needs."""
    words = iter(command[1:])
    for word in words:
        name = word.removeprefix("-S")
        if name and "=" not in name:
            return [name, *words]
    return []


def _options(words: Sequence[str]) -> Iterator[str]:
    """Yield the letters of the interpreter's own options, which end where the program begins."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return
        if word == "--check-hash-based-pycs":
            next(rest, None)
        if word.startswith("--"):
            continue
        for place, letter in enumerate(word[1:], start=2):
            if letter in "cm":
                return
            if letter in "WX":  # with a value: the rest of the word or the next one
                if place == len(word):
                    next(rest, None)
                break
            yield letter
