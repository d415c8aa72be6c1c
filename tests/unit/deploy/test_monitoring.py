"""Alerts and dashboard ask for figures that a run really sends, by the names under which it sends them."""

import json
import re
from pathlib import Path

import pytest

from voxload.measure.recorder import Recorder
from voxload.model.metric import METRICS
from voxload.runners.telemetry.figures import Figures, outside_name, shape_of
from voxload.runners.telemetry.origin import CALLS, Level
from voxload.runners.telemetry.prometheus import TYPES, prometheus_name

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
BICEP = (DEPLOY / "azure" / "monitoring.bicep").read_text()
DASHBOARD = json.loads((DEPLOY / "grafana" / "voxload.json").read_text())


def offered():
    """What a run sends that has a value of everything: kind and Prometheus names by figure."""
    recorder = Recorder()
    for metric in METRICS.values():
        if metric.kind != "level":
            recorder.observe(metric.name, (), 1.0)
    recorder.started = 1
    snapshot = recorder.take(1, 0, 0.0, 0.0)
    snapshot.counters.outcomes["completed"] = 1
    figures = Figures()
    figures.take(snapshot)
    return {figure.name: figure for figure in figures.all([Level(CALLS, 1, {0: 1.0})])}


ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


def test_the_dashboard_asks_for_what_a_scrape_offers():
    names = {
        prometheus_name("voxload", figure) + ending
        for figure in offered().values()
        for ending in ENDINGS[TYPES[figure.kind]]
    }
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked = {name for text in expressions for name in re.findall(r"voxload_\w+", text)}
    assert len(asked) >= 8
    assert asked <= names
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_alerts_judge_what_a_run_sends_by_the_targets_of_the_product():
    figures = offered()
    watched = re.findall(r"metric: '\$\{prefix\}\.([\w.]+)'", BICEP)
    assert watched == ["voice.latency", "turn.latency", "call.success"]
    assert set(watched) <= set(figures)
    assert figures["voice.latency"].unit == figures["turn.latency"].unit == "ms"
    assert re.search(r"param voiceLatencyMs int = 300\b", BICEP)
    assert "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria" in BICEP
    assert "WorkspaceResourceId: workspace.id" in BICEP


@pytest.mark.parametrize(("opening", "closing"), ["{}", "[]", "()"])
def test_the_template_is_closed_everywhere(opening, closing):
    code = re.sub(r"//.*|'(\\'|[^'])*'", "", BICEP)
    assert code.count(opening) == code.count(closing) > 0


def test_names_outside_are_unique():
    names = [outside_name(name) for name in METRICS]
    assert len(set(names)) == len(names)
    assert all(shape_of(name).scale > 0 for name in METRICS if METRICS[name].kind != "level")
