"""What a scrape of ``/metrics`` says, in OpenTelemetry's words, to be held against what arrived by OTLP."""

from __future__ import annotations

import urllib.request
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from loopwatch import facts

from .received import Histogram, Series

FACTS = {fact.prometheus_name: fact for fact in facts.ALL}


def scrape(url: str) -> dict[Series, float | Histogram]:
    """Read the series of loopwatch's facts, each under its name and attributes in OpenTelemetry."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    found: dict[Series, float | Histogram] = {}
    for family in text_string_to_metric_families(text):
        fact = FACTS.get(family.name)
        if fact is None:
            continue
        samples: dict[Series, dict[str, Any]] = {}
        for sample in family.samples:
            named = dict(zip(fact.prometheus_labels, fact.labels, strict=True))
            labels = frozenset((named[key], text) for key, text in sample.labels.items() if key != "le")
            part = sample.labels.get("le", sample.name.removeprefix(family.name))
            samples.setdefault((fact.name, labels), {})[part] = sample.value
        for series, values in samples.items():
            found[series] = _histogram(values) if fact.kind == "histogram" else next(iter(values.values()))
    return found


def _histogram(values: dict[str, float]) -> Histogram:
    """Put together the samples of one histogram, by their upper bounds and, of the others, their suffixes."""
    cumulated = sorted((float(key), int(count)) for key, count in values.items() if not key.startswith("_"))
    counts = [after - before for before, after in pairwise([0, *(count for _, count in cumulated)])]
    bounds = [bound for bound, _ in cumulated[:-1]]
    return Histogram(tuple(bounds), tuple(counts), cumulated[-1][1], values["_sum"])
