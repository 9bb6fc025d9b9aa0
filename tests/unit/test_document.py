"""What is written as a document is read again as the same records, whatever they hold."""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwatch import _document
from loopwatch._agent_records import Finding, Lost, Pool, Snapshot, Stall, Waiting
from loopwatch._document import Document, DocumentError, Process, TaskSite, read, write
from loopwatch._measures import Distribution, Point
from loopwatch._records import DrainReport, Frame, Task

RECORDS = (Frame, Stall, Task, Lost, Waiting, Pool, DrainReport, Finding, TaskSite, Process, Point)


@cache
def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Return what makes values of a type, small ones: it is their shapes that matter."""
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is str:
        return st.text(max_size=3)
    if is_dataclass(hint):
        return st.builds(hint, **{name: of_type(of) for name, of in get_type_hints(hint).items()})
    if isinstance(hint, types.UnionType):
        return st.one_of(*map(of_type, hint.__args__))
    if get_origin(hint) is tuple:
        return st.lists(of_type(hint.__args__[0]), max_size=2).map(tuple)
    if get_origin(hint) is Mapping:
        return st.dictionaries(of_type(str), of_type(hint.__args__[1]), max_size=2)
    return st.from_type(hint)


def document(**changes: Any) -> Document:
    snapshot = Snapshot(taken_at=1.5, service_name="shop", points={}, loops=(), stalls=(), lost=())
    made = Document(Process(1, "3.12.1", "0.1", 0.1), snapshot, sites=(), tasks=(), waits=())
    return replace(made, **changes)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=20, database=None)
@given(st.data())
def test_records_come_out_as_they_went_in(record: type, data: st.DataObject) -> None:
    made = data.draw(of_type(record))
    writer = _document.Writer()
    plain = json.loads(json.dumps({"value": writer.plain(made), "frames": writer.frames}))
    frames = [Frame(**row) for row in plain["frames"]]
    assert _document._reader(record)(plain["value"], frames) == made


def test_a_frame_stands_once_however_often_it_recurs() -> None:
    frame = Frame("parse", "shop", "/srv/shop.py", 42)
    site = TaskSite(frame, 3, 7, 2, 1, 1, 5.0, None, None)
    written = json.loads(write(document(sites=(site, replace(site, live=2)))))
    assert written["frames"] == [{"function": "parse", "module": "shop", "file": "/srv/shop.py", "line": 42}]
    assert [each["site"] for each in written["sites"]] == [0, 0]
    assert [each["live"] for each in written["sites"]] == [3, 2]


def test_a_number_that_is_none_is_null_in_json_and_nan_again() -> None:
    snapshot = replace(document().snapshot, taken_at=math.inf)
    text = write(document(snapshot=snapshot))
    assert b"Infinity" not in text
    assert math.isnan(read(text).snapshot.taken_at)


def test_names_of_any_bytes_are_written_in_ascii_and_come_back() -> None:
    process = Process(1, "\x1b[31m\udcff\n", "é", 0.1)
    text = write(document(process=process))
    assert text.isascii()
    assert read(text).process == process


def test_fields_of_a_newer_version_are_passed_over_and_those_of_an_older_one_have_their_defaults() -> None:
    written = json.loads(write(document()))
    written["novel"] = written["process"]["novel"] = 1
    del written["workers"], written["snapshot"]["findings"]
    assert read(json.dumps(written).encode()) == document()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "no document of loopwatch's: JSONDecodeError"),
        (b"<html>", "no document"),
        (b"[1]", "no document"),
        (b"{}", "KeyError: 'version'"),
        (b'{"version": 2}', "version 2 of the document; this loopwatch reads 1"),
        (b'{"version": 1, "frames": []}', "Document without process, sites, snapshot, tasks, waits"),
        (b'{"version": 1, "frames": [{"function": 1}]}', "Frame without file, line, module"),
        (b"\xff\xfe\xfd", "no document"),
        (b"[" * 100_000, "no document"),
    ],
)
def test_what_is_no_document_is_said_to_be_none(text: bytes, complaint: str) -> None:
    with pytest.raises(DocumentError) as raised:
        read(text)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("process", "pid"), "1"),
        (("process", "pid"), True),
        (("process", "python"), None),
        (("snapshot", "loops"), {}),
        (("snapshot", "points"), []),
        (("snapshot", "taken_at"), "soon"),
        (("sites",), [{"site": 0}]),
        (("workers",), [None]),
    ],
)
def test_a_value_of_another_type_is_an_error(place: tuple[str, ...], wrong: object) -> None:
    written = json.loads(write(document()))
    inside = written
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = wrong
    with pytest.raises(DocumentError):
        read(json.dumps(written).encode())


def test_every_record_can_be_in_it() -> None:
    """Each kind of record that a document holds has a reader: none is left as plain JSON."""
    seen: set[Any] = set()

    def walk(hint: Any) -> None:
        for part in (hint, *getattr(hint, "__args__", ())):
            if is_dataclass(part) and part not in seen:
                seen.add(part)
                _document._reader(part)
                for field in get_type_hints(part).values():
                    walk(field)
            elif part is not hint:
                walk(part)

    walk(Document)
    names = {field.name for field in fields(Snapshot)}
    assert {Stall, Task, Lost, Waiting, Pool, DrainReport, Finding, TaskSite, Frame, Distribution} <= seen
    assert {"stalls", "findings", "pools", "drains", "lost"} <= names
