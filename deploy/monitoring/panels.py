"""Panels of a Grafana dashboard, and its JSON. `deploy/monitoring/dashboard.py` says which there are.

In expressions `{W}` stands for the workers that the variables above the dashboard choose, `{W, more="…"}` for some of
their series.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

SCHEMA_VERSION = 41
"""Of Grafana 12; later ones migrate it."""
WORKERS = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
RATE = "[$__rate_interval]"
WORKER = "{{pod}} {{instance}}"
"""The legend of a series by worker."""
EACH = "namespace, job, pod, instance"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
PER_SECOND, SECONDS, SHARE, BYTES, PLAIN = "/s", "s", "percentunit", "bytes", "short"


class Panel(NamedTuple):
    """A panel; `targets` are expressions by their legend."""

    kind: str
    title: str
    unit: str
    targets: dict[str, str]
    text: str = ""
    width: int = 8
    height: int = 7
    worst: float | None = None
    """Of a single figure: red from here on; where it is 0, red below 1."""


class Row(NamedTuple):
    title: str
    panels: list[Panel]


def lines(title: str, unit: str, text: str = "", **targets: str) -> Panel:
    """Over time; a keyword is a legend, or `by_x` for the value of the label x and `by_worker`."""
    return Panel("timeseries", title, unit, {_legend(name): expr for name, expr in targets.items()}, text)


def figure(title: str, unit: str, expression: str, text: str = "", worst: float | None = None) -> Panel:
    """How it is now."""
    return Panel("stat", title, unit, {"": expression}, text, width=4, height=4, worst=worst)


def quantiles(title: str, metric: str, text: str = "") -> Panel:
    return lines(title, SECONDS, text, **{f"p{q}": quantile(q, metric) for q in (50, 90, 99)})


def quantile(percent: int, metric: str, by: str = "", selected: str = "{W}") -> str:
    return f"histogram_quantile({percent / 100:g}, sum by ({by}le) (rate({metric}_bucket{selected}{RATE})))"


def mean(metric: str, by: str = "") -> str:
    of = f"sum by ({by}) " if by else "sum "
    return f"{of}(rate({metric}_sum{{W}}{RATE})) / {of}(rate({metric}_count{{W}}{RATE}))"


def rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{W}}{RATE}))"


def share(part: str, *whole: str) -> str:
    return f"{rate(part)} / ({' + '.join(map(rate, whole))})"


def by_partition(metric: str) -> str:
    """One worker has a partition; while it changes hands two may tell of it."""
    return f"max by (topic, partition) ({metric}{{W}})"


def table(title: str, text: str = "", **targets: str) -> Panel:
    """The series as they are now, their labels as columns; a keyword is the heading of the figures."""
    return Panel("table", title, PLAIN, dict(targets), text, width=COLUMNS, height=8)


def dashboard(rows: list[Row]) -> dict[str, Any]:
    """The dashboard as Grafana's classic JSON."""
    return {
        "uid": "winnow",
        "title": "Winnow",
        "description": "Workers of the streaming classifier: are they well, what do they do, and what does it cost.",
        "tags": ["winnow", "kafka"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": laid_out(rows),
    }


def variables() -> list[dict[str, Any]]:
    """Each narrows down those after it. Without namespaces or pods, as outside of Kubernetes, all is chosen."""
    found = "winnow_worker_info"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        _variable("namespace", f"label_values({found}, namespace)", ".*"),
        _variable("group", f'label_values({found}{{namespace=~"$namespace"}}, group)', ".*"),
        _variable("job", f'label_values({found}{{namespace=~"$namespace", group=~"$group"}}, job)'),
        _variable("pod", f'label_values({found}{{namespace=~"$namespace", job=~"$job"}}, pod)', ".*"),
    ]


def _variable(name: str, query: str, everything: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": everything,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def laid_out(rows: list[Row]) -> list[dict[str, Any]]:
    """The panels in Grafana's grid of 24 columns, from left to right, a heading before each row."""
    made: list[dict[str, Any]] = []
    numbers, y = count(1), 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        made.append({"id": next(numbers), "gridPos": _grid(0, y, COLUMNS, 1), **heading})
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            made.append({"id": next(numbers), "gridPos": _grid(x, y, panel.width, panel.height), **rendered(panel)})
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return made


def rendered(panel: Panel) -> dict[str, Any]:
    """A panel without its place."""
    instant = panel.kind != "timeseries"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": expression.replace("{W", "{" + WORKERS),
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for number, (legend, expression) in enumerate(panel.targets.items())
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        **_options(panel),
    }


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "color": {"mode": "palette-classic"}}
    if panel.unit == SHARE:
        field |= {"min": 0}
    if panel.kind == "timeseries":
        field["custom"] = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False}
    if panel.kind == "stat":
        field["color"] = {"mode": "thresholds"}
        field["thresholds"] = {"mode": "absolute", "steps": _steps(panel.worst)}
    return field


def _steps(worst: float | None) -> list[dict[str, Any]]:
    if worst is None:
        return [{"color": "text", "value": None}]
    if worst == 0:
        return [{"color": "red", "value": None}, {"color": "green", "value": 1}]
    return [{"color": "green", "value": None}, {"color": "red", "value": worst}]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend, tooltip = {"displayMode": "list", "placement": "bottom"}, {"mode": "multi", "sort": "desc"}
        return {"options": {"legend": legend, "tooltip": tooltip}}
    if panel.kind == "stat":
        return {"options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none", "colorMode": "value"}}
    hidden = {"Time": True, "__name__": True} | ({"Value": True} if len(panel.targets) == 1 else {})
    names = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(panel.targets)}
    organized = {"id": "organize", "options": {"excludeByName": hidden, "renameByName": names}}
    return {"options": {"showHeader": True}, "transformations": [{"id": "merge", "options": {}}, organized]}


def _legend(name: str) -> str:
    if name == "by_worker":
        return WORKER
    if name == "by_partition":
        return "{{topic}} {{partition}}"
    label = name.removeprefix("by_")
    return "{{" + label + "}}" if label != name else name.replace("_", " ")


def _grid(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}
