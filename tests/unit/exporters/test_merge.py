"""The texts of several workers become one that Prometheus can read, with all samples of all of them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from loopwatch.exporters.exposition import OPENMETRICS, TEXT, Form
from loopwatch.exporters.merge import EOF, Merged, NotOursError

NASTY = 'a "quoted" \\ thing,\n} 1.0 # {x="y"}'


def registry(number: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs so far.", ["state"], registry=registry).labels("done").inc(
        10 * number, exemplar={"trace_id": "abc"}
    )
    Gauge("bare", "Without a label.", registry=registry).set(number)
    Gauge("nasty", 'Help with a \\ and "quotes"\nand a line.', ["what"], registry=registry).labels(NASTY).set(
        -1e-9
    )
    Gauge("infinite", "The largest there is.", registry=registry).set(float("inf"))
    histogram = Histogram("wait", "Seconds.", ["pool"], buckets=(0.1, 1.0), unit="seconds", registry=registry)
    histogram.labels("a").observe(0.5 * number)
    return registry


def merged(texts: dict[int, str]) -> str:
    merged = Merged()
    for pid, text in texts.items():
        merged.add(text, pid)
    return merged.text()


def samples(families: list[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])
class TestForms:
    """In both forms of the exposition."""

    def parse(self, form: Form, text: str) -> list[Metric]:
        return list(parse_openmetrics(text + EOF) if form is OPENMETRICS else parse_text(text))

    def test_every_sample_of_every_worker_is_there_under_its_pid(self, form: Form) -> None:
        texts = {pid: form.write(registry(pid)).decode() for pid in (1, 2, 3)}
        wanted = {
            (name, tuple(sorted([*labels, ("process_pid", str(pid))]))): value
            for pid, text in texts.items()
            for (name, labels), value in samples(self.parse(form, text.removesuffix(EOF))).items()
        }
        assert len(wanted) > 20
        assert samples(self.parse(form, merged(texts))) == wanted

    def test_each_family_stands_once_with_its_help_and_type(self, form: Form) -> None:
        text = merged({pid: form.write(registry(pid)).decode() for pid in (1, 2, 3)})
        heads = [line for line in text.splitlines() if line.startswith("#")]
        assert len(heads) == len(set(heads))
        one = form.write(registry(1)).decode().removesuffix(EOF)
        assert heads == [line for line in one.splitlines() if line.startswith("#")]
        assert EOF not in text

    def test_a_family_that_only_one_has_is_there(self, form: Form) -> None:
        other = CollectorRegistry()
        Gauge("other", "Of one worker.", registry=other).set(7)
        text = merged({1: form.write(registry(1)).decode(), 2: form.write(other).decode()})
        assert 'other{process_pid="2"} 7.0\n' in text
        assert 'bare{process_pid="1"} 1.0\n' in text
        assert 'bare{process_pid="2"}' not in text


def test_exemplars_stay_with_their_samples() -> None:
    text = merged({1: OPENMETRICS.write(registry(1)).decode()})
    assert 'jobs_total{process_pid="1",state="done"} 10.0 # {trace_id="abc"} 10.0 ' in text


def test_of_two_kinds_of_a_family_the_first_is_shown() -> None:
    """Workers of two versions, as during a deployment."""
    counter, gauge = (f"# HELP x X.\n# TYPE x {kind}\nx 1.0\n" for kind in ("counter", "gauge"))
    assert merged({1: counter, 2: gauge, 3: counter}) == (
        '# HELP x X.\n# TYPE x counter\nx{process_pid="1"} 1.0\nx{process_pid="3"} 1.0\n'
    )


def test_a_family_without_samples_stays() -> None:
    head = "# HELP x X.\n# TYPE x gauge\n"
    assert merged({1: head, 2: ""}) == head


GOOD = "# HELP a A.\n# TYPE a gauge\na 1.0\n"


@pytest.mark.parametrize(
    "text",
    [
        "x 1.0\n",
        "hello\n" + GOOD,
        GOOD + "hello\n",
        GOOD + "b\n",
        GOOD + "b one\n",
        GOOD + 'b{c="d} 1.0\n',
        GOOD + "b{} 1.0\n",
        GOOD + "b 1.0",
        GOOD + "\n",
        GOOD + "# TYPE b gauge\nb 1.0\n",
        GOOD + "# HELP b B.\n# TYPE c gauge\nb 1.0\n",
        GOOD + "# HELP b B.\nb 1.0\n",
        GOOD + "1b 1.0\n",
        GOOD + EOF + GOOD,
        "<html>",
    ],
)
def test_what_no_worker_of_ours_says_is_refused_as_a_whole(text: str) -> None:
    merged = Merged()
    merged.add(GOOD, 1)
    with pytest.raises(NotOursError):
        merged.add(text, 2)
    assert merged.text() == '# HELP a A.\n# TYPE a gauge\na{process_pid="1"} 1.0\n'
