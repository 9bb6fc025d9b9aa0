"""A snapshot comes out as the metric families that the catalogue of facts promises."""

from collections.abc import Callable, Iterable, Mapping

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Exemplar, Point
from loopwatch.exporters.exposition import OPENMETRICS, TEXT, Form
from loopwatch.exporters.prometheus import SnapshotCollector, registry_of

Points = Mapping[str, tuple[Point, ...]]


def snapshot_of(points: Points) -> Snapshot:
    return Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())


def expose(points: Points, journal: Journal, form: Form = TEXT) -> str:
    return form.write(SnapshotCollector(lambda: snapshot_of(points), journal)).decode()


def samples(text: str) -> set[str]:
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def test_each_kind_of_fact_has_its_series() -> None:
    text = expose(
        {
            "iterations": (Point(("main",), 42.0),),
            "blocked": (Point(("main",), 0.25), Point(("worker",), 0.0)),
            "ready": (Point(("main",), 3.0),),
            "block_duration": (Point(("main",), Distribution((0.1, 1.0), (0, 2, 1), 7.5)),),
        },
        Journal(),
    )
    assert samples(text) == {
        'asyncio_eventloop_iterations_total{asyncio_eventloop_name="main"} 42.0',
        'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="main"} 0.25',
        'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="worker"} 0.0',
        'asyncio_eventloop_ready_count{asyncio_eventloop_name="main"} 3.0',
        'asyncio_eventloop_block_duration_seconds_bucket{asyncio_eventloop_name="main",le="0.1"} 0.0',
        'asyncio_eventloop_block_duration_seconds_bucket{asyncio_eventloop_name="main",le="1.0"} 2.0',
        'asyncio_eventloop_block_duration_seconds_bucket{asyncio_eventloop_name="main",le="+Inf"} 3.0',
        'asyncio_eventloop_block_duration_seconds_count{asyncio_eventloop_name="main"} 3.0',
        'asyncio_eventloop_block_duration_seconds_sum{asyncio_eventloop_name="main"} 7.5',
    }
    assert "# TYPE asyncio_eventloop_iterations_total counter" in text
    assert "# TYPE asyncio_eventloop_ready_count gauge" in text
    assert "# TYPE asyncio_eventloop_block_duration_seconds histogram" in text


EXEMPLAR = Exemplar(0.2, 1_700_000_000.25, f"{0xABC:032x}", f"{0xDEF:016x}")
WITH_EXEMPLAR = {
    "delay": (Point(("main",), Distribution((0.1, 1.0), (0, 2, 1), 7.5, (None, EXEMPLAR, None))),)
}


def test_openmetrics_shows_each_exemplar_at_its_bucket() -> None:
    journal = Journal()
    families = parse_openmetrics(expose(WITH_EXEMPLAR, journal, OPENMETRICS))
    found = {sample.labels["le"]: sample.exemplar for family in families for sample in family.samples[:3]}
    shown = found.pop("1.0")
    assert found == {"0.1": None, "+Inf": None}
    assert shown is not None
    assert shown.labels == {"trace_id": EXEMPLAR.trace_id, "span_id": EXEMPLAR.span_id}
    assert (shown.value, float(shown.timestamp or 0)) == (0.2, 1_700_000_000.25)
    assert sum(map(len, [*shown.labels, *shown.labels.values()])) == 63  # of the 128 it may have
    assert journal.failures() == {}


def test_the_classic_text_shows_no_exemplar() -> None:
    without = {"delay": (Point(("main",), Distribution((0.1, 1.0), (0, 2, 1), 7.5)),)}
    journal = Journal()
    assert expose(WITH_EXEMPLAR, journal) == expose(without, journal)
    assert journal.failures() == {}


def test_a_fact_without_points_is_absent_rather_than_zero() -> None:
    text = expose({"iterations": (), "log_suppressed": (Point((), 0.0),)}, Journal())
    assert samples(text) == {"loopwatch_log_suppressed_total 0.0"}
    assert "iterations" not in text


@pytest.mark.parametrize(
    "broken",
    [
        Point(("main",), Distribution((1.0,), (0, 1), 2.0)),
        Point(("main",), None),  # type: ignore[arg-type]
        Point((None,), 1.0),  # type: ignore[arg-type]
    ],
)
def test_a_fact_that_cannot_be_rendered_costs_no_other(broken: Point) -> None:
    journal = Journal()
    text = expose({"iterations": (broken,), "blocked": (Point(("main",), 1.5),)}, journal)
    assert samples(text) == {'asyncio_eventloop_blocked_seconds{asyncio_eventloop_name="main"} 1.5'}
    assert journal.failures() == {"prometheus": 1}


def test_a_histogram_takes_no_plain_number() -> None:
    journal = Journal()
    assert expose({"delay": (Point(("main",), 1.0),)}, journal) == ""
    assert journal.failures() == {"prometheus": 1}


def test_a_source_that_raises_costs_the_registry_only_our_families() -> None:
    def source() -> Snapshot:
        raise RuntimeError("no snapshot")

    journal = Journal()
    text = TEXT.write(registry_of(SnapshotCollector(source, journal))).decode()
    assert "python_gc_collections_total" in text
    assert "asyncio_" not in text
    assert journal.failures() == {"prometheus": 1}


def test_registering_names_every_family_and_takes_no_snapshot() -> None:
    def source() -> Snapshot:
        raise AssertionError("a snapshot was taken")

    journal = Journal()
    collector = SnapshotCollector(source, journal)
    registry = registry_of(collector)
    assert [family.name for family in collector.describe()] == [fact.prometheus_name for fact in facts.ALL]
    assert journal.failures() == {}
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(collector)


def test_names_that_utf8_cannot_hold_are_spelled_out() -> None:
    function = 'app.\udcff.<locals>."quoted"\nfunc\\tion'
    points = {"block_time": (Point(("main", function, "cpu"), 2.0),)}
    (family,) = parse_text(expose(points, Journal()))
    assert family.samples[0].labels["code_function_name"] == 'app.\\udcff.<locals>."quoted"\nfunc\\tion'


def test_the_default_registry_stays_as_it_was() -> None:
    before = {family.name for family in prometheus_client.REGISTRY.collect()}
    text = TEXT.write(registry_of(SnapshotCollector(lambda: snapshot_of({}), Journal()))).decode()
    assert "python_gc_objects_collected_total" in text
    assert {family.name for family in prometheus_client.REGISTRY.collect()} == before
    assert not any(name.startswith(("asyncio_", "loopwatch_")) for name in before)
    assert prometheus_client.generate_latest().startswith(b"# HELP python_gc_objects_collected_total")


texts = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
magnitudes = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
bounds = st.lists(st.floats(0.0, 1e9, exclude_min=True), min_size=1, max_size=5, unique=True).map(sorted)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    edges = tuple(draw(bounds))
    counts = draw(st.lists(st.integers(0, 2**40), min_size=len(edges) + 1, max_size=len(edges) + 1))
    return Distribution(edges, tuple(counts), draw(magnitudes))


def points_of(fact: facts.Fact) -> st.SearchStrategy[tuple[Point, ...]]:
    labels = st.tuples(*(texts for _ in fact.labels))
    values = distributions() if fact.kind == "histogram" else magnitudes
    points = st.builds(Point, labels, values)
    return st.lists(points, max_size=3, unique_by=lambda point: spelled(point.labels)).map(tuple)


def spelled(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.encode("utf-8", "backslashreplace").decode() for text in labels)


snapshots = st.fixed_dictionaries({}, optional={fact.stem: points_of(fact) for fact in facts.ALL})


def expected(points: Points) -> dict[tuple[str, tuple[str, ...], str], float]:
    """Every series that must come out, by name, label values and bucket bound."""
    series = {}
    for stem, values in points.items():
        fact = facts.BY_STEM[stem]
        name = fact.prometheus_name
        for point in values:
            labels = spelled(point.labels)
            if isinstance(point.value, Distribution):
                for at, bound in enumerate((*point.value.bounds, float("inf"))):
                    series[f"{name}_bucket", labels, str(bound)] = float(sum(point.value.counts[: at + 1]))
                series[f"{name}_count", labels, ""] = float(point.value.count)
                series[f"{name}_sum", labels, ""] = point.value.sum
            else:
                series[f"{name}_total" if fact.kind == "counter" else name, labels, ""] = point.value
    return series


@pytest.mark.parametrize(("form", "parse"), [(TEXT, parse_text), (OPENMETRICS, parse_openmetrics)])
@given(points=snapshots)
def test_any_snapshot_reads_back_to_the_same_magnitudes(
    form: Form, parse: Callable[[str], Iterable[Metric]], points: Points
) -> None:
    journal = Journal()
    text = expose(points, journal, form)
    names = {fact.prometheus_name: fact.prometheus_labels for fact in facts.ALL}
    found = {}
    for family in parse(text):
        for sample in family.samples:
            bound = sample.labels.pop("le", "")
            labels = tuple(sample.labels[name] for name in names[family.name])
            found[sample.name, labels, bound and str(float(bound))] = sample.value
    assert found == expected(points)
    assert journal.failures() == {}
