"""``loopwatch run``: any Python program under the agent, with no change to its code.

The program replaces this process (``exec``), so its pid, exit status, signals and standard streams are its
own; the agent comes in through ``bootstrap/sitecustomize.py``, put on PYTHONPATH, which children inherit.
This command needs no library that the core does not need, since it lives in the application's environment.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopwatch._errors import ConfigurationError
from loopwatch._settings import PREFIX, RUN, Settings, disabled, load

from .run_program import CannotRunError, Program, resolve

_BOOTSTRAP = str(Path(__file__).with_name("bootstrap"))

_OPTIONS = {
    "service_name": "name of the service in what is exported",
    "stall_threshold": "seconds a loop may be busy before it is a stall (0.1)",
    "prometheus_port": "port of /metrics (9464); 0 for any free one, none for no endpoint",
    "prometheus_host": "address of /metrics (127.0.0.1)",
    "keep_tasks": "yes: hold each task until it is done; no (the default)",
    "drain_timeout": "seconds for a plain program's tasks to end, on SIGTERM and SIGINT; none for no drain",
    "app_packages": "modules that count as application code, separated by commas",
    "otlp": "yes or no: export by OpenTelemetry; else if an OTEL_EXPORTER_OTLP_* variable is set",
    "job_spans": "yes: export each job of spawn() as a span; no (the default)",
    "hold_dump": "yes, no, or the file for the stack of a long hold of the GIL",
    "hold_threshold": "seconds a connection may be held before a line says by whom (60); none for never",
    "console": "yes, no, a port, or repl: the telnet console, on loopback (no)",
    "console_socket": "yes (the default) or no: answer `loopwatch console` on a UNIX socket",
    "ignore": "rules not to apply, or not to what a pattern names: LW104,LW101:shop.startup.*",
    "allow": "patterns of names that no rule is to find anything wrong with, separated by commas",
}
"""Every setting is an option and, as ``LOOPWATCH_<NAME>``, an environment variable."""


def main(argv: Sequence[str]) -> int:
    """Become the program that ``argv`` names. On POSIX returns only on failure: 2, after a line on stderr."""
    options, words = _split(argv)
    parser = _parser()
    given = {name: text for name, text in vars(parser.parse_args(options)).items() if text is not None}
    if not words:
        parser.error("no program given; write: loopwatch run [options] -- PROGRAM ARGS")
    try:
        program = resolve(words)
        environ = dict(os.environ)
        if not disabled(environ):
            settings = _settings(given, environ)
            program.check()
            _say_if_taken(settings, environ)
            environ = watched(environ)
        return _become(program, environ)
    except (CannotRunError, ConfigurationError, OSError) as error:
        _say(str(error))
        return 2


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Separate our options from the program; ``--`` may be left out, since each option has a value."""
    place = 0
    while place < len(argv) and argv[place] != "--" and (argv[place].startswith("--") or argv[place] == "-h"):
        place += 1 if "=" in argv[place] or argv[place] in ("-h", "--help") else 2
    words = argv[place:]
    return argv[:place], words[1:] if words[:1] == ["--"] else words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "loopwatch run",
        usage="loopwatch run [options] -- PROGRAM ARGS",
        description="Run a Python program, its children and workers under the agent, with no change to its "
        "code. PROGRAM is a script, a console script, an interpreter with its options, or -m MODULE.",
        epilog="Each option is also LOOPWATCH_<NAME> in the environment.",
        allow_abbrev=False,
    )
    for name, text in _OPTIONS.items():
        parser.add_argument(_option(name), dest=name, metavar="VALUE", help=text)
    return parser


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _settings(given: Mapping[str, str], environ: dict[str, str]) -> Settings:
    """Put the options where the program will read them, and check them here, where users can correct them."""
    for name, text in given.items():
        environ[PREFIX + name.upper()] = text
    try:
        return load({}, environ)
    except ConfigurationError as error:
        message = str(error)
        for name in given:
            message = message.replace(PREFIX + name.upper(), _option(name))
        raise ConfigurationError(message) from None


def _say_if_taken(settings: Settings, environ: Mapping[str, str]) -> None:
    """Report if another program holds the port of /metrics.

    This is reported here, once, since the program's processes cannot: they share the port, so most of them
    find it held by one of their own. The same holds for a program that is started from within a watched one.
    """
    if not settings.prometheus_port or RUN in environ:
        return
    host, port = settings.prometheus_host, settings.prometheus_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        why = str(error.strerror).partition(" (while attempting to bind")[0]  # our line has the address
        _say(
            f"no /metrics on {host}:{port}: {why}. "
            "The program runs and is watched all the same; choose another with --prometheus-port."
        )


def watched(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` such that every Python started with it runs our ``sitecustomize`` first."""
    # An empty entry would stand for the current directory, so an empty PYTHONPATH must not become one.
    paths = [_BOOTSTRAP, *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths), RUN: str(os.getpid())}


def _become(program: Program, environ: Mapping[str, str]) -> int:
    if sys.platform != "win32":
        os.execve(program.executable, program.argv, environ)  # noqa: S606  (which is what was asked for)
    # On Windows exec starts a second process and ends this one at once, which the caller takes for the end of
    # the program; so wait for the child, and leave Ctrl-C, which both receive, to the child.
    command = [program.interpreter, program.executable, *program.argv[1:]]
    if program.executable.lower().endswith(".exe"):
        command = [program.executable, *program.argv[1:]]
    with subprocess.Popen(command, env=environ) as child:  # noqa: S603
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue


def _say(message: str) -> None:
    print(f"loopwatch run: {message}", file=sys.stderr)
