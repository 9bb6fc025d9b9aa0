"""Everything known at one moment as one JSON document, and the way back from the document to records.

Both directions follow the fields of the records. Frames, which recur, are listed once in a table; elsewhere
their index in it stands for them. What a newer version adds is ignored; what an older one lacks gets the
record's default, or is an error if there is none.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ._agent_records import Snapshot, Waiting
from ._errors import LoopwatchError
from ._records import Frame, Task

PATH = "/loopwatch.json"
VERSION = 1
"""Incremented when a reader of the previous one would misread a document."""


class DocumentError(LoopwatchError):
    """A text is not a document of ours, or of a version that is too new."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process described."""

    pid: int
    python: str
    loopwatch: str
    stall_threshold: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class TaskSite:
    """A place that creates tasks, and what became of them."""

    site: Frame
    live: int
    """Tasks created there that have not ended."""
    created: int
    ok: int
    error: int
    cancelled: int
    oldest: float | None
    """Age in seconds of the oldest live task; None if there is none, or it was not among those looked at."""
    duration_p50: float | None
    """Seconds from creation to end; None if no task has ended yet."""
    duration_p99: float | None


@dataclass(frozen=True, slots=True)
class Document:
    """A snapshot, with the tasks and who waits for what."""

    process: Process
    snapshot: Snapshot
    """Its pools list all who use or await them."""
    sites: tuple[TaskSite, ...]
    """Where tasks are created, most live tasks first."""
    tasks: tuple[Task, ...]
    """Live tasks, oldest first: the oldest of each site."""
    waits: tuple[Waiting, ...]
    """Most waiting tasks first."""
    workers: tuple[int, ...] = ()
    """The pids of all processes that share the port, this one included; empty without a port."""


class Writer:
    """Turns records into JSON's own types, and collects their frames."""

    def __init__(self) -> None:
        self._places: dict[Frame, int] = {}

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The table of the frames referred to so far."""
        return [{name: getattr(frame, name) for name in _names(Frame)} for frame in self._places]

    def plain(self, value: Any) -> Any:
        """Return ``value``, a record or a part of one, in JSON's types. NaN and infinities become null."""
        kind: Any = type(value)
        if kind is Frame:
            return self._places.setdefault(value, len(self._places))
        if kind is float:
            return value if math.isfinite(value) else None
        if kind in _AS_THEY_ARE:
            return value
        if kind is tuple:
            return [self.plain(each) for each in value]
        if isinstance(value, Mapping):
            return {key: self.plain(each) for key, each in value.items()}
        return {name: self.plain(getattr(value, name)) for name in _names(kind)}


_AS_THEY_ARE = frozenset((str, int, bool, types.NoneType))


@cache
def _names(record: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def write(document: Document) -> bytes:
    """Write a document as JSON, in ASCII."""
    writer = Writer()
    plain = {"version": VERSION, **writer.plain(document), "frames": writer.frames}
    return json.dumps(plain, separators=(",", ":")).encode()


def read(text: bytes) -> Document:
    """Read what ``write`` wrote. Raises DocumentError for anything else."""
    try:
        plain = json.loads(text)
        version = plain["version"]
        if version != VERSION:
            raise DocumentError(f"version {version!r} of the document; this loopwatch reads {VERSION}")
        frames = [_reader(_Row)(row, []) for row in plain["frames"]]
        document: Document = _reader(Document)(plain, frames)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DocumentError(f"no document of loopwatch's: {type(error).__name__}: {error}") from None
    return document


Read = Callable[[Any, list[Frame]], Any]
"""Turns a part of a document into the value of its field, given the table of frames."""


class _Row:
    """Stands for a frame that is written out in full: in the table."""


@cache
def _reader(hint: Any) -> Read:
    """Return the function that reads a value of this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is _Row:
        return _record(Frame)
    if hint is Frame:
        return lambda plain, frames: frames[plain]
    if _is_record(hint):
        return _record(hint)
    if origin in (Union, types.UnionType):
        return _one_of(arguments)
    if origin is tuple:
        each = _reader(arguments[0])
        return lambda plain, frames: tuple([each(part, frames) for part in _checked(list, plain)])
    if origin is Literal:  # a newer version may have more words
        return lambda plain, frames: _checked(str, plain)
    if origin is not None and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return lambda plain, frames: {key: value(part, frames) for key, part in _checked(dict, plain).items()}
    if hint is float:
        return lambda plain, frames: math.nan if plain is None else float(_checked((int, float), plain))
    return lambda plain, frames: _checked(hint, plain)


def _record(record: Any) -> Read:
    hints = get_type_hints(record)
    needed = {field.name for field in fields(record) if field.default is MISSING}
    read_field = {name: _reader(hint) for name, hint in hints.items() if name in _names(record)}

    def read_record(plain: Any, frames: list[Frame]) -> Any:
        _checked(dict, plain)
        if missing := needed - plain.keys():
            raise ValueError(f"{record.__name__} without {', '.join(sorted(missing))}")
        return record(**{n: read(plain[n], frames) for n, read in read_field.items() if n in plain})

    return read_record


def _one_of(hints: tuple[Any, ...]) -> Read:
    """Read a value of the only type beside None, or either a record or a number, told apart by form."""
    of_record = next((_reader(hint) for hint in hints if _is_record(hint)), None)
    others = [_reader(hint) for hint in hints if hint is not types.NoneType and not _is_record(hint)]
    may_be_none = types.NoneType in hints

    def read_one(plain: Any, frames: list[Frame]) -> Any:
        if plain is None and may_be_none:
            return None
        if of_record is not None and (isinstance(plain, dict) or not others):
            return of_record(plain, frames)
        return others[0](plain, frames)

    return read_one


def _is_record(hint: Any) -> bool:
    return hint is not Frame and is_dataclass(hint)


def _checked(kind: Any, plain: Any) -> Any:
    if not isinstance(plain, kind) or (kind is int and isinstance(plain, bool)):
        raise TypeError(f"{plain!r:.50} where there should be {kind}")
    return plain
