"""The dashboards and rules that are shipped hold to the rules that their readers rely on.

What they mean is for ``tests/stack``: there a real Prometheus answers them.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.alerts import ALERTS
from dashboards.queries import FOREIGN
from dashboards.rule_file import RECORDINGS
from loopwatch import facts

pytestmark = pytest.mark.alike

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "dashboards"
RULES = (DASHBOARDS / "rules" / "loopwatch.yml").read_text(encoding="utf-8")
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(DASHBOARDS.glob("grafana/*.json"))
}

UNSHOWN: dict[str, str] = {}
"""Facts that are on no dashboard, and why."""
UNITS = {"short", "s", "percentunit", "ops", "reqps", "bytes"}
"""Those of Grafana's that are in use; a wrong one shows as text beside the number."""
OF_ALL = {"Processes", "Time lost in stalls, by cause", "Delay of timers"}
"""Panels that add processes up on purpose, beside those of one number."""
TOTALS = {"drain_finished", "drain_cancelled", "drain_abandoned", "unwatched"}
"""Counters that are shown as they stand: after a drain the process ends, and with it every rate; and a loop
that is left alone is so from its start."""
COUNTED_GAUGES = {"jobs"}
"""Gauges of which some series only rise: jobs that have ended."""

BY_NAME = {fact.prometheus_name + ("_total" if fact.kind == "counter" else ""): fact for fact in facts.ALL}
SERIES = {
    fact.prometheus_name + part: fact
    for fact in facts.ALL
    if fact.kind == "histogram"
    for part in ("_bucket", "_sum", "_count")
}
KNOWN = {
    name: fact for name, fact in (BY_NAME | SERIES).items() if fact.kind != "histogram" or name in SERIES
}
COUNTERS = {name for name, fact in KNOWN.items() if fact.kind in ("counter", "histogram")}

SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\{([^}]*)\}(?:\[([^\]]+)\])?")

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those that show something: no titles of rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each query with its panel, or with the annotation that it is of."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel, target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation, annotation["expr"]


def names_in(query: str) -> set[str]:
    """Return the metrics that a query names, whatever stands behind them."""
    words = re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r'"[^"]*"|\{[^}]*\}|by \([^)]*\)|on \([^)]*\)', "", query))
    return {word for word in words if re.match("(asyncio|loopwatch|db|http|process)_|up$|.*:", word)}


@each_board
def test_the_variables_are_those_of_every_dashboard(board: dict[str, Any]) -> None:
    variables = {each["name"]: each for each in board["templating"]["list"]}
    optional = {"process"} & variables.keys()
    assert list(variables) == ["datasource", "job", "instance", *optional, "loop"]
    source = variables.pop("datasource")
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")
    for name, variable in variables.items():
        assert variable["datasource"]["uid"] == "${datasource}"
        assert variable["refresh"] == 2  # when the time range changes
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == (".*" if name == "process" else ".+")


@each_board
def test_each_panel_says_what_it_is(board: dict[str, Any]) -> None:
    """A title of its own, a unit, how to read it, and the data source that was chosen."""
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    for panel in panels(board):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert len(panel["description"]) > 20 or panel["title"] == "Tasks", panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) > 0
        for override in panel["fieldConfig"]["overrides"]:
            shown = {each["id"]: each["value"] for each in override["properties"]}
            assert shown["unit"] in UNITS


@each_board
def test_no_two_panels_lie_on_each_other(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@each_board
def test_each_query_looks_at_what_was_chosen(board: dict[str, Any]) -> None:
    variables = {each["name"] for each in board["templating"]["list"]}
    for place, query in queries(board):
        selected = SELECTOR.findall(query)
        assert selected
        assert names_in(query) <= {name for name, _, _ in selected}, query
        for name, matchers, _ in selected:
            chosen = {'job=~"$job"', 'instance=~"$instance"'}
            if "process" in variables:
                chosen.add('process_pid=~"$process"')
            if name in KNOWN and facts.LOOP in KNOWN[name].labels:
                chosen.add('asyncio_eventloop_name=~"$loop"')
            assert chosen <= set(matchers.split(", ")), (place, query)


@each_board
def test_each_metric_is_one_of_ours(board: dict[str, Any]) -> None:
    """And its labels are those that it has."""
    common = {"job", "instance", "process_pid", "le"}
    for _, query in queries(board):
        for name, matchers, _ in SELECTOR.findall(query):
            assert name in KNOWN or name in FOREIGN, name
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
            assert labels <= common | set(KNOWN[name].prometheus_labels if name in KNOWN else ()), query


@each_board
def test_counters_are_rates_and_gauges_are_not(board: dict[str, Any]) -> None:
    """Over ``$__rate_interval``, or what grew in the time shown."""
    for _, query in queries(board):
        for function, window in re.findall(r"\b(rate|increase|resets)\([^\[]*\[([^\]]+)\]", query):
            windows = {"$__rate_interval", "$__range"} if function == "increase" else {"$__rate_interval"}
            assert window in windows, query
        spanned = {name for name, _, window in SELECTOR.findall(query) if window}
        for name, _, window in SELECTOR.findall(query):
            if name in COUNTERS:
                assert name in spanned or KNOWN[name].stem in TOTALS, query
            elif window:
                assert name in KNOWN, query
                assert KNOWN[name].stem in COUNTED_GAUGES, query


@each_board
def test_processes_are_told_apart(board: dict[str, Any]) -> None:
    for place, query in queries(board):
        summed = place.get("type") == "stat" or place.get("title") in OF_ALL
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            apart = {"job", "instance", "process_pid"} <= set(labels.split(", "))
            assert apart or summed, query
        if not summed:
            assert not re.search(r"\b(sum|max|min|count|avg) ?\((?!.*by)", query), query


@each_board
def test_it_leads_to_the_others(board: dict[str, Any]) -> None:
    (others,) = [each for each in board["links"] if each["type"] == "dashboards"]
    assert others["tags"] == board["tags"] == ["loopwatch"]
    assert others["includeVars"]
    assert others["keepTime"]
    assert not board["editable"]
    marks = {each["name"] for each in board["annotations"]["list"] if each["enable"]}
    assert marks == {"Stalls of more than 0.5 s", "Shutdowns", "Restarts"}


def test_the_heatmap_leads_to_traces() -> None:
    (heatmap,) = [panel for panel in panels(BOARDS["loopwatch-instance"]) if panel["type"] == "heatmap"]
    assert heatmap["targets"][0]["exemplar"] is True
    assert heatmap["targets"][0]["format"] == "heatmap"


def test_every_fact_is_on_a_dashboard() -> None:
    names = {name for board in BOARDS.values() for _, query in queries(board) for name in names_in(query)}
    names |= {
        name
        for board in BOARDS.values()
        for _, query in queries(board)
        for name, _, _ in SELECTOR.findall(query)
    }
    shown = {KNOWN[name].stem for name in names if name in KNOWN}
    assert {fact.stem for fact in facts.ALL} - shown == UNSHOWN.keys()


def test_rules_name_what_is_there() -> None:
    """Facts, series of other rules, and ``up``; each rule that records is used."""
    expressions = re.findall(r"expr: \|-\n((?: {10}.*\n)+)", RULES)
    named = {name for text in expressions for name in names_in(text)}
    recorded = {rule.name for rule in RECORDINGS}
    assert named - KNOWN.keys() - {"up"} == recorded


def test_rules_tell_processes_apart() -> None:
    """All but the one that compares whole jobs."""
    for text in re.findall(r"expr: \|-\n((?: {10}.*\n)+)", RULES):
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", text):
            assert labels.startswith("job, instance, process_pid") or "(up ==" in text, text


def test_three_alerts_page() -> None:
    """The rest are tickets: they are about causes, or do not hurt yet."""
    paging = {alert.name for _, group in ALERTS for alert in group if alert.severity == "critical"}
    assert paging == {"AsyncioEventLoopStalled", "AsyncioEventLoopDelayHigh", "ConnectionPoolTimeouts"}


def test_links_lead_somewhere() -> None:
    """From alerts and panels, to dashboards and to pages of the documentation."""
    assert {alert.dashboard for _, group in ALERTS for alert in group} <= BOARDS.keys()
    texts = [RULES, *(json.dumps(board) for board in BOARDS.values())]
    pages = {
        page for text in texts for page in re.findall(r"/docs/((?:rules|how-to|explanation)[^\"\\]*)", text)
    }
    assert "rules/LW301.md" in pages
    for page in pages - {"rules/${__data.fields.rule}.md", "rules"}:
        path, _, anchor = page.partition("#")
        there = ROOT / "docs" / path
        if path.startswith("rules/") and not there.parent.is_dir():
            continue  # the pages of findings are not written yet
        assert there.exists(), page
        titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}, page


def test_what_is_generated_is_up_to_date() -> None:
    if importlib.util.find_spec("grafana_foundation_sdk") is None:
        pytest.skip("needs: grafana-foundation-sdk")
    done = subprocess.run(
        [sys.executable, DASHBOARDS / "build.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
