"""Panels and dashboards in our own words, over grafana-foundation-sdk: what all of them have in common.

Whatever a panel shows has a unit and a description; a query is PromQL over facts, see ``queries.py``, and
gets the matchers of the dashboard's variables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from loopwatch import facts
from loopwatch._cli.dashboards import DOCS

from .queries import expand

TAG = "loopwatch"
SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "$__rate_interval"
LEGEND = "{{instance}} {{process_pid}}"
GREEN, YELLOW, RED = "green", "yellow", "red"

_NEW = f"(max by (@PROCESS) (@info) unless max by (@PROCESS) (@info offset {RATE}))"
"""Processes that were not there before. One that has no label of its own, ``process_pid`` or the instance of
OTLP, is seen by its counters, which begin anew."""

Matchers = Callable[[facts.Fact | None], str]
Panel = Callable[[Matchers], Any]
"""Makes the panel, once it is known which variables its dashboard has."""


@dataclass(frozen=True)
class Query:
    """What a panel asks, and what it calls the answer."""

    text: str
    legend: str = LEGEND
    exemplars: bool = False


def named(label: str) -> str:
    """Return the legend of what a process has several of, which a label tells apart."""
    return f"{LEGEND} {{{{{label}}}}}"


def per(label: str, measured: str) -> Query:
    """Ask for the sum of each process and each value of a label."""
    return Query(f"sum by (@PROCESS, {label}) ({measured})", named(label))


@dataclass(frozen=True)
class Column:
    """A column of a table: what is asked at this moment, and how it is shown."""

    title: str
    query: str
    unit: str
    limits: tuple[float, ...] = ()
    """From which value on it is yellow, and red."""


@dataclass(frozen=True)
class Look:
    """Where a panel is, and what else all kinds have."""

    title: str
    unit: str
    description: str
    width: int = 8
    height: int = 8
    limits: tuple[float, ...] = ()
    """From which value on it is yellow, and red: those of the alert, where there is one."""
    page: str = ""
    """The page that says what to do, below ``docs/``."""


def graph(look: Look, *queries: Query, stacked: bool = False) -> Panel:
    """Lines over time, the highest first in the legend."""

    def build(matchers: Matchers) -> Any:
        panel = _common(timeseries.Panel(), look)
        panel.min(0).fill_opacity(30 if stacked else 0).line_width(1)
        panel.show_points(common_models.VisibilityMode.NEVER)
        panel.legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .sort_by("Max")
            .sort_desc(True)
        )
        panel.tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        if stacked:
            panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        elif look.limits:
            dashed = common_models.GraphThresholdsStyleMode.DASHED
            panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
        return panel.targets(list(_targets(queries, matchers)))

    return build


def number(look: Look, query: str) -> Panel:
    """One number, as of now, on the colour that it deserves."""

    def build(matchers: Matchers) -> Any:
        panel = _common(stat.Panel(), look)
        panel.color_mode(common_models.BigValueColorMode.BACKGROUND)
        panel.graph_mode(common_models.BigValueGraphMode.NONE)
        panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        return panel.no_value("-").with_target(_target(query, matchers).instant().legend_format(""))

    return build


def heat(look: Look, query: str) -> Panel:
    """Show a histogram's buckets over time, with the exemplars on top: by ``le`` alone."""

    def build(matchers: Matchers) -> Any:
        panel = _common(heatmap.Panel(), look)
        panel.calculate(False).cell_gap(1).show_legend()
        panel.color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(64)
        )
        panel.y_axis(heatmap.YAxisConfig().unit(look.unit))
        panel.exemplars_color("rgba(255,0,255,0.7)")
        target = _target(query, matchers).range().legend_format("{{le}}").exemplar(True)
        return panel.with_target(target.format(prometheus_models.PromQueryFormat.HEATMAP))

    return build


def table(
    look: Look, *columns: Column, sort: str, renamed: dict[str, str] | None = None, links: Sequence[Any] = ()
) -> Panel:
    """One row for each set of labels, the highest of the column ``sort`` first."""

    def build(matchers: Matchers) -> Any:
        panel = _common(tables.Panel(), look)
        names = {}
        for ref, column in zip("ABCDEFGHIJKLMNOP", columns, strict=False):
            target = _target(column.query, matchers).instant().ref_id(ref)
            panel.with_target(target.format(prometheus_models.PromQueryFormat.TABLE))
            names[f"Value #{ref}" if len(columns) > 1 else "Value"] = column.title
            panel.override_by_name(column.title, list(_shown(column)))
        if len(columns) > 1:
            panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        organize = {"excludeByName": {"Time": True}, "renameByName": names | (renamed or {})}
        panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        if links:
            panel.data_links(list(links))
        return panel

    return build


def timeline(look: Look, query: Query, names: dict[str, tuple[str, str]]) -> Panel:
    """Bands over time, each value by its name and colour."""

    def build(matchers: Matchers) -> Any:
        panel = _common(statetimeline.Panel(), look)
        options = {
            value: models.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(names.items())
        }
        panel.mappings([models.ValueMap(options=options)])
        panel.merge_values(True).row_height(0.8).fill_opacity(80)
        return panel.targets(list(_targets([query], matchers)))

    return build


def link(title: str, url: str) -> Any:
    """Lead from a panel, or a value in it, to elsewhere."""
    return dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).target_blank(True)


def page(path: str) -> str:
    """Return the address of a page of the documentation."""
    return f"{DOCS}/{path}"


def _common(panel: Any, look: Look) -> Any:
    panel.title(look.title).description(look.description).unit(look.unit).datasource(SOURCE)
    panel.span(look.width).height(look.height)
    panel.thresholds(
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(_steps(look.limits))
    )
    if look.page:
        panel.links([link("What to do", page(look.page))])
    return panel


def _steps(limits: Iterable[float]) -> list[models.Threshold]:
    colors = zip(limits, (YELLOW, RED), strict=False)
    return [models.Threshold(None, GREEN), *(models.Threshold(value, color) for value, color in colors)]


def _target(query: str, matchers: Matchers) -> Any:
    return prometheus.Dataquery().expr(expand(query, matchers)).datasource(SOURCE).ref_id("A")


def _targets(queries: Iterable[Query], matchers: Matchers) -> Iterable[Any]:
    for ref, query in zip("ABCDEFGH", queries, strict=False):
        target = _target(query.text, matchers).range().legend_format(query.legend).ref_id(ref)
        yield target.exemplar(True) if query.exemplars else target


def _shown(column: Column) -> Iterable[models.DynamicConfigValue]:
    yield models.DynamicConfigValue("unit", column.unit)
    if column.limits:
        steps = [{"value": step.value, "color": step.color} for step in _steps(column.limits)]
        yield models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps})
        yield models.DynamicConfigValue("custom.cellOptions", {"type": "color-background"})


@dataclass(frozen=True)
class Board:
    """A dashboard: its name, what it is for, and its rows of panels."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    processes: bool = False
    """Whether a process may be chosen among several at one address."""
    since: str = "now-1h"

    def matchers(self, fact: facts.Fact | None) -> str:
        """Return the matchers of the variables that a metric can have; None stands for one that is no "
        "fact."""
        chosen = ['job=~"$job"', 'instance=~"$instance"']
        if self.processes:
            chosen.append('process_pid=~"$process"')
        if fact is not None and facts.LOOP in fact.labels:
            chosen.append('asyncio_eventloop_name=~"$loop"')
        return ", ".join(chosen)

    def render(self) -> str:
        """Return it as Grafana's JSON."""
        built = dashboard.Dashboard(self.title).uid(self.uid).description(self.description).tags([TAG])
        built.readonly().tooltip(models.DashboardCursorSync.CROSSHAIR).timezone("browser")
        built.time(self.since, "now").refresh("30s").version(1)
        for variable in self._variables():
            built.with_variable(variable)
        for annotation in self._annotations():
            built.annotation(annotation)
        built.link(
            dashboard.DashboardLink("loopwatch")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        built.link(link("What to do", page("rules")))
        for title, panels in self.rows:
            built.with_row(dashboard.Row(title))
            for panel in panels:
                built.with_panel(panel(self.matchers))
        made = built.build()
        for number, each in enumerate(made.panels or (), 1):
            each.id_val = number
        marks = made.annotations.list_val if made.annotations else None
        for shown in (*(made.links or ()), *(marks or ())):
            shown.placement = None  # where they are seen: the SDK would have them in a menu
        return json.dumps(made, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"

    def _variables(self) -> Iterable[Any]:
        yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        of = 'job=~"$job"'
        yield _variable("job", "Job", "job", "")
        yield _variable("instance", "Instance", "instance", of)
        of += ', instance=~"$instance"'
        if self.processes:
            yield _variable("process", "Process", "process_pid", of, every=".*")  # absent of one by itself
        yield _variable("loop", "Event loop", "asyncio_eventloop_name", of)

    def _annotations(self) -> Iterable[Any]:
        """Mark stalls that users feel, shutdowns, and processes that are new."""
        slow, every = '@block_duration_bucket{le="0.5"}', "@block_duration_count"
        for name, color, query, text in (
            (
                "Stalls of more than 0.5 s",
                RED,
                f"sum by (@LOOP) (increase({every}[{RATE}])) - sum by (@LOOP) (increase({slow}[{RATE}])) > 0",
                "{{instance}} {{process_pid}} {{asyncio_eventloop_name}}",
            ),
            (
                "Shutdowns",
                YELLOW,
                'max by (@PROCESS) (@drain_status{loopwatch_drain_state!="serving"}) > 0',
                LEGEND,
            ),
            (
                "Restarts",
                "blue",
                f"sum by (@PROCESS) (resets(@overhead[{RATE}])) > 0 or {_NEW}",
                LEGEND,
            ),
        ):
            yield (
                dashboard.AnnotationQuery()
                .name(name)
                .datasource(SOURCE)
                .enable(True)
                .icon_color(color)
                .expr(expand(query, self.matchers))
                .step("30s")
                .title_format(name)
                .text_format(text)
            )


def _variable(name: str, label: str, of: str, matchers: str, every: str = ".+") -> Any:
    metric = facts.BY_STEM["info"].prometheus_name
    query = f"label_values({metric}{f'{{{matchers}}}' if matchers else ''}, {of})"
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": "A", "qryType": 5})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(every)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
