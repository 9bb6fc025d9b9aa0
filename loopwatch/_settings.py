"""Settings: arguments of ``install()`` and ``LOOPWATCH_*``, checked once, frozen afterwards."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from . import _otlp
from ._arguments import LONGEST_DRAIN, UNSET, refusal, seconds
from ._errors import ConfigurationError
from ._rule_ids import RULE_IDS

logger = logging.getLogger("loopwatch")

PREFIX = "LOOPWATCH_"
DISABLED = PREFIX + "DISABLED"
RUN = PREFIX + "RUN"
"""Set by ``loopwatch run``, to the pid of the program: marks that program's processes. Before they start, it
warns of what concerns them all (an unknown setting, a port another program holds), so they need not."""

_HOST = "Give an address of this machine, such as '127.0.0.1', '0.0.0.0' or '::'."

CONSOLE_PORT = 20101
"""The first port that is tried for the telnet console: aiomonitor's own default."""
REPL = "repl"
"""The console in which anything can be done, including running code."""
CONSOLE_PIP = "pip install 'loopwatch[console]'"

LONGEST_HOLD = 86400.0
"""The most seconds ``hold_threshold`` may be, unless it is None."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``install()`` was asked for, after the environment has been read and all values checked."""

    service_name: str = ""
    stall_threshold: float = 0.1
    prometheus_port: int | None = 9464
    prometheus_host: str = "127.0.0.1"
    otlp: bool = False
    job_spans: bool = False
    keep_tasks: bool = False
    drain_timeout: float | None = None
    app_packages: tuple[str, ...] = ()
    hold_dump: bool | str = True
    hold_threshold: float | None = 60.0
    console: bool | int | str = False
    console_socket: bool = True
    ignore: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


def _stall_threshold(name: str, value: object) -> float:
    return seconds(name, value, 0.005, 60.0)


def _otlp_setting(name: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        instead = "Give True, False, or None for whatever the OTEL_* variables say."
        raise refusal(name, value, f"got {type(value).__name__}, not a yes or no", instead)
    return value


def _yes_or_no(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise refusal(
            name, value, f"got {type(value).__name__}, neither True nor False", "Give True or False."
        )
    return value


def _drain_timeout(name: str, value: object) -> float | None:
    return None if value is None else seconds(name, value, 0.0, LONGEST_DRAIN)


def _hold_threshold(name: str, value: object) -> float | None:
    return None if value is None else seconds(name, value, 1.0, LONGEST_HOLD)


def _prometheus_port(name: str, value: object) -> int | None:
    instead = "Give a port from 0 to 65535 (0: any free one), or None for no endpoint."
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal(name, value, f"got {type(value).__name__}, not a port number", instead)
    if not 0 <= value <= 65535:
        raise refusal(name, value, "no such port", instead)
    return value


def _console(name: str, value: object) -> bool | int | str:
    instead = f"Give True, False, a port from 0 to 65535 (0: any free one), or {REPL!r}."
    if not isinstance(value, bool | int) and value != REPL:
        raise refusal(
            name, value, f"got {type(value).__name__}, neither True, False, a port nor {REPL!r}", instead
        )
    if isinstance(value, int) and not 0 <= value <= 65535:
        raise refusal(name, value, "no such port", instead)
    if value is not False and importlib.util.find_spec("aiomonitor") is None:
        why = "that takes packages that are not installed"
        raise refusal(name, value, why, f"Install them: {CONSOLE_PIP}.")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise refusal(name, value, "not a text with something in it", "Give a non-empty string.")
    return value.strip()


def _prometheus_host(name: str, value: object) -> str:
    host = _text(name, value)
    try:
        encoded = host.encode("idna")  # as the socket will
    except UnicodeError as error:
        raise refusal(name, value, f"no name of a host ({error})", _HOST) from None
    if b"\0" in encoded:
        raise refusal(name, value, "there is a null character in it", _HOST)
    return host


def _app_packages(name: str, value: object) -> tuple[str, ...]:
    instead = "Give module names, such as app_packages=('shop', 'shop_jobs')."
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise refusal(name, value, f"got {type(value).__name__}, not a sequence of module names", instead)
    packages = tuple(value)
    for package in packages:
        if not isinstance(package, str) or not all(part.isidentifier() for part in package.split(".")):
            raise refusal(name, value, f"{package!r} is no module name", instead)
    return packages


def _hold_dump(name: str, value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        path = Path(value)
        if "\0" in str(path):
            raise refusal(name, str(value), "there is a null character in it", "Name another file.")
        if not path.parent.is_dir():
            raise refusal(
                name, str(value), f"there is no directory {path.parent}", "Create it, or name another file."
            )
        if path.is_dir():
            raise refusal(name, str(value), "that is a directory", "Name a file in it.")
        return str(path)
    raise refusal(
        name, value, "neither True, False nor a path", "Give True, False, or the path of the dump file."
    )


def _texts(name: str, value: object, instead: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise refusal(name, value, f"got {type(value).__name__}, not a sequence of texts", instead)
    texts = tuple(value)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise refusal(name, value, f"{text!r} is not a text with something in it", instead)
    return tuple(text.strip() for text in texts)


def _ignore(name: str, value: object) -> tuple[str, ...]:
    instead = "Give rules, or rules and patterns of names, such as ignore=('LW104', 'LW101:shop.startup.*')."
    entries = _texts(name, value, instead)
    for entry in entries:
        rule, colon, pattern = entry.partition(":")
        if rule not in RULE_IDS:
            near = _nearest(rule.upper(), RULE_IDS)
            hint = f"did you mean {near}?" if near else f"known are {', '.join(RULE_IDS)}."
            raise ConfigurationError(f"{name}={value!r}: there is no rule {rule!r}: {hint} {instead}")
        if colon and not pattern.strip():
            raise refusal(name, value, f"{entry!r} has no pattern after its colon", instead)
    return entries


def _allow(name: str, value: object) -> tuple[str, ...]:
    instead = "Give names or patterns of names, such as allow=('shop.startup.*', 'shop.jobs.poll')."
    patterns = _texts(name, value, instead)
    for pattern in patterns:
        if not pattern.strip("*?. "):
            raise refusal(name, value, f"{pattern!r} allows everything", instead)
        if pattern.partition(":")[0] in RULE_IDS:
            raise refusal(name, value, f"{pattern!r} names a rule", f"Write ignore=({pattern!r},).")
    return patterns


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "service_name": _text,
    "stall_threshold": _stall_threshold,
    "prometheus_port": _prometheus_port,
    "prometheus_host": _prometheus_host,
    "otlp": _otlp_setting,
    "job_spans": _yes_or_no,
    "keep_tasks": _yes_or_no,
    "drain_timeout": _drain_timeout,
    "app_packages": _app_packages,
    "hold_dump": _hold_dump,
    "hold_threshold": _hold_threshold,
    "console": _console,
    "console_socket": _yes_or_no,
    "ignore": _ignore,
    "allow": _allow,
}


_FLAGS: Mapping[str, str] = {
    "keep_tasks": "yes or no",
    "otlp": "yes or no",
    "job_spans": "yes or no",
    "console_socket": "yes or no",
    "console": f"yes, no, a port, or {REPL}",
}
"""What each yes-or-no variable accepts, in words."""


def _parse(field: str, name: str, raw: str) -> object:
    """Turn the text of an environment variable into what the argument of the same name takes."""
    text = raw.strip()
    if field in ("prometheus_port", "drain_timeout", "hold_threshold") and text.lower() in ("none", "off"):
        return None
    if field in ("stall_threshold", "drain_timeout", "hold_threshold"):
        try:
            return float(text)
        except ValueError:
            raise refusal(name, raw, "not a number", "Write seconds, such as 0.1.") from None
    if field == "prometheus_port":
        try:
            return int(text)
        except ValueError:
            raise refusal(name, raw, "not a port number", "Write 0 to 65535, or none.") from None
    if field in ("app_packages", "ignore", "allow"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if field == "console" and text.isdecimal() and text not in ("0", "1"):  # those two mean no and yes
        return int(text)
    if field == "hold_dump" or (field, text) == ("console", REPL):
        flag = _flag(text)
        return text if flag is None else flag
    return _flag_of(name, raw, _FLAGS[field]) if field in _FLAGS else raw


def _flag_of(name: str, raw: str, instead: str) -> bool:
    """Parse a yes or no from the environment. Raises ConfigurationError when it is neither."""
    flag = _flag(raw)
    if flag is None:
        raise refusal(name, raw, "neither yes nor no", f"Write {instead}.")
    return flag


def _flag(text: str) -> bool | None:
    """Parse a yes or no from the environment; None when it is neither."""
    if text.strip().lower() in ("1", "true", "yes", "on"):
        return True
    if text.strip().lower() in ("0", "false", "no", "off", "none", ""):
        return False
    return None


def disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``LOOPWATCH_DISABLED`` asks for an inert agent. Raises ConfigurationError if unreadable."""
    raw = environ.get(DISABLED, "")
    return _flag_of(DISABLED, raw, "1 or 0")


def _nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that was probably meant, if any."""
    from difflib import get_close_matches  # not needed where every name is spelled correctly

    return next(iter(get_close_matches(word, known, n=1)), None)


def _warn_unknown(environ: Mapping[str, str]) -> None:
    known = sorted([*(field.name.upper() for field in fields(Settings)), DISABLED.removeprefix(PREFIX)])
    for name in sorted(environ):
        rest = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and rest not in known and name != RUN:
            near = _nearest(rest.upper(), known)
            all_known = ", ".join(PREFIX + each for each in known)
            hint = f"did you mean {PREFIX}{near}?" if near else f"known are {all_known}."
            logger.warning("loopwatch: %s is set but is no setting of loopwatch: %s", name, hint)


def _otel_service_name(environ: Mapping[str, str]) -> str:
    items = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    pairs = [(name.strip(), value.strip()) for name, _, value in (item.partition("=") for item in items)]
    return environ.get("OTEL_SERVICE_NAME") or unquote(dict(pairs).get("service.name", ""))


def _program_name(argv: list[str]) -> str:
    stem = Path(argv[0]).stem if argv and argv[0] not in ("", "-c", "-m") else ""
    if stem == "__main__":
        stem = Path(argv[0]).parent.name
    return stem or "python"


def _export(asked: bool | None, environ: Mapping[str, str]) -> bool:
    """Decide whether to export by OTLP. Raises ConfigurationError if it is asked for but impossible."""
    variable = _otlp.variable_set(environ)
    if asked is False or _otlp.disabled(environ) or (asked is None and variable is None):
        return False
    try:
        if _otlp.installed(environ):
            return True
        why = f"that takes packages that are not installed. Install them: {_otlp.PIP}"
    except ValueError as unknown:
        why = str(unknown)
    if asked:
        raise ConfigurationError(f"otlp=True: {why}")
    if RUN not in environ:
        logger.warning("loopwatch: %s is set, but nothing is exported: %s", variable, why)
    return False


def load(arguments: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings: an argument that is not ``UNSET`` beats the environment, which beats the default.

    Raises ConfigurationError, which names the argument or variable, its value and what is accepted.
    """
    if RUN not in environ:
        _warn_unknown(environ)
    chosen: dict[str, Any] = {}
    for field, check in _CHECKS.items():
        variable = PREFIX + field.upper()
        if arguments.get(field, UNSET) is not UNSET:
            chosen[field] = check(field, arguments[field])
        elif environ.get(variable, "").strip():  # empty counts as not set, as for OTEL_*
            chosen[field] = check(variable, _parse(field, variable, environ[variable]))
    chosen.setdefault("service_name", _otel_service_name(environ) or _program_name(sys.argv))
    chosen["otlp"] = _export(chosen.get("otlp"), environ)
    return Settings(**chosen)
