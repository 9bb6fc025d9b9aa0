"""What a Collector's file exporter has written, as plain records: one for each point, span and log record.

A line of the file is one request as it arrived, in the JSON of the OTLP specification.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["counter", "gauge", "updowncounter", "histogram", "exponential", "delta"]
Attributes = Mapping[str, Any]
Series = tuple[str, frozenset[tuple[str, str]]]
"""A metric's name and the attributes of one of its points."""

CUMULATIVE = 2
"""The one temporality that loopwatch sends; the other is seen as a kind of its own."""


@dataclass(frozen=True)
class Origin:
    """Who sent something."""

    resource: Attributes
    scope: str
    scope_version: str
    schema_url: str


@dataclass(frozen=True)
class Exemplar:
    """One observation of a histogram, with whose it was."""

    value: float
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Histogram:
    """The value of a histogram's point: one count for each bucket, not cumulated."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    sum: float
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True)
class Point:
    """One value of a metric at one time."""

    name: str
    unit: str
    description: str
    kind: Kind
    attributes: Attributes
    value: float | Histogram
    began: float
    """Unix time from which on a counter counts."""
    time: float
    """Unix time."""
    request: int
    """Points that arrived together have the same."""
    origin: Origin

    @property
    def series(self) -> Series:
        """What tells it from the other points of its request: attributes as Prometheus has them, as texts."""
        return self.name, frozenset((key, str(value)) for key, value in self.attributes.items())


@dataclass(frozen=True)
class Link:
    """From a span to another."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Span:
    """One span."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began: float
    """Unix time."""
    seconds: float
    """How long it took."""
    attributes: Attributes
    links: tuple[Link, ...]
    origin: Origin


@dataclass(frozen=True)
class Log:
    """One log record."""

    event_name: str
    severity_number: int
    severity: str
    body: Any
    attributes: Attributes
    trace_id: str
    span_id: str
    time: float
    """Unix time."""
    origin: Origin


@dataclass
class Received:
    """Everything in a file so far; ``read()`` reads on."""

    path: Path
    points: list[Point] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    requests: int = 0
    _offset: int = 0

    def read(self) -> None:
        """Take in the lines that were added since, but not one that is still being written."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def drop_unfinished(self) -> None:
        """Cut off the line in whose middle a Collector was killed: the next one would go on in it."""
        if self.path.exists():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def metrics(self, *, after: float) -> dict[Series, Point] | None:
        """Return the points of the first export that began after that time; None before there is one."""
        exports: dict[int, list[Point]] = {}
        for point in self.points:
            exports.setdefault(point.request, []).append(point)
        for points in exports.values():
            if min(point.time for point in points) > after:
                return {point.series: point for point in points}
        return None

    def stall(self, held: Mapping[str, float]) -> Span | None:
        """Return the span of the stall that began then, as Unix time, and lasted so many seconds, about."""
        began, ended = held["began"], held["began"] + held["seconds"]
        found = [
            span
            for span in self.spans
            if span.name == "asyncio.eventloop.block"
            and min(ended, span.began + span.seconds) - max(began, span.began) > held["seconds"] / 2
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def _take(self, request: dict[str, Any]) -> None:
        self.requests += 1
        self.points += [
            point
            for origin, metric in _each(request, "resourceMetrics", "scopeMetrics", "metrics")
            for point in _points(metric, origin, self.requests)
        ]
        self.spans += [
            _span(span, origin) for origin, span in _each(request, "resourceSpans", "scopeSpans", "spans")
        ]
        self.logs += [
            _log(record, origin)
            for origin, record in _each(request, "resourceLogs", "scopeLogs", "logRecords")
        ]


def _each(
    request: dict[str, Any], resources: str, scopes: str, items: str
) -> Iterator[tuple[Origin, dict[str, Any]]]:
    """Go through a request of any of the three signals, which are nested alike."""
    for of_resource in request.get(resources, ()):
        resource = _attributes(of_resource.get("resource", {}))
        for of_scope in of_resource.get(scopes, ()):
            scope = of_scope.get("scope", {})
            origin = Origin(
                resource, scope.get("name", ""), scope.get("version", ""), of_scope.get("schemaUrl", "")
            )
            for item in of_scope.get(items, ()):
                yield origin, item


def _points(metric: dict[str, Any], origin: Origin, request: int) -> Iterator[Point]:
    kind, data = _kind(metric)
    for point in data["dataPoints"]:
        yield Point(
            name=metric["name"],
            unit=metric.get("unit", ""),
            description=metric.get("description", ""),
            kind=kind,
            attributes=_attributes(point),
            value=_histogram(point) if kind == "histogram" else float(_number(point)),
            began=_time(point, "startTimeUnixNano"),
            time=_time(point, "timeUnixNano"),
            request=request,
            origin=origin,
        )


def _kind(metric: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
    if "gauge" in metric:
        return "gauge", metric["gauge"]
    if "exponentialHistogram" in metric:
        return "exponential", metric["exponentialHistogram"]
    data = metric.get("histogram") or metric["sum"]
    if data["aggregationTemporality"] != CUMULATIVE:
        return "delta", data
    if "histogram" in metric:
        return "histogram", data
    return ("counter" if data.get("isMonotonic") else "updowncounter"), data


def _histogram(point: dict[str, Any]) -> Histogram:
    return Histogram(
        bounds=tuple(point.get("explicitBounds", ())),
        counts=tuple(map(int, point.get("bucketCounts", ()))),
        count=int(point.get("count", 0)),
        sum=float(point.get("sum", 0.0)),
        exemplars=tuple(
            Exemplar(
                float(_number(each)),
                each.get("traceId", ""),
                each.get("spanId", ""),
                _attributes(each, "filteredAttributes"),
            )
            for each in point.get("exemplars", ())
        ),
    )


def _number(point: dict[str, Any]) -> Any:
    """Return what is a number, or an integer of 64 bits as JSON has it: as text. Zero may be left out."""
    return point.get("asDouble", point.get("asInt", point.get("count", 0)))


def _span(span: dict[str, Any], origin: Origin) -> Span:
    return Span(
        name=span["name"],
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        began=_time(span, "startTimeUnixNano"),
        seconds=(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9,
        attributes=_attributes(span),
        links=tuple(
            Link(link["traceId"], link["spanId"], _attributes(link)) for link in span.get("links", ())
        ),
        origin=origin,
    )


def _log(record: dict[str, Any], origin: Origin) -> Log:
    return Log(
        event_name=record.get("eventName", ""),
        severity_number=record.get("severityNumber", 0),
        severity=record.get("severityText", ""),
        body=_value(record.get("body", {})),
        attributes=_attributes(record),
        trace_id=record.get("traceId", ""),
        span_id=record.get("spanId", ""),
        time=_time(record, "timeUnixNano"),
        origin=origin,
    )


def _time(item: dict[str, Any], key: str) -> float:
    return int(item.get(key, 0)) / 1e9


def _attributes(item: dict[str, Any], key: str = "attributes") -> Attributes:
    return {each["key"]: _value(each["value"]) for each in item.get(key, ())}


def _value(value: dict[str, Any]) -> Any:
    """Return the value that OTLP has under a key that names its type."""
    for kind, held in value.items():
        if kind == "intValue":
            return int(held)
        if kind == "arrayValue":
            return tuple(_value(each) for each in held.get("values", ()))
        if kind == "kvlistValue":
            return _attributes(held, "values")
        return held
    return None
