"""The figures that go out: exact counts, and a way out that never holds anybody up."""

import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxload.errors import BadInputError
from voxload.measure.recorder import Recorder
from voxload.model.metric import METRICS
from voxload.model.telemetry import TelemetrySettings
from voxload.runners.telemetry.figures import Figures, shape_of
from voxload.runners.telemetry.live import RunIdentity, Telemetry
from voxload.runners.telemetry.sink import Sink, in_short

LABELS = (("call", "booking"),)


def in_time():
    return time.monotonic_ns() + 5_000_000_000


def snapshot_of(values, shard=0):
    recorder = Recorder(shard)
    for value in values:
        recorder.latency("turn_latency", LABELS, value)
    return recorder.take(1, 0, 0.0, 0.0)


def turn(figures):
    (figure,) = [each for each in figures.all([]) if each.name == "turn.latency"]
    return figure, figure.points[0]


@given(st.lists(st.lists(st.integers(0, 80_000_000_000), min_size=1, max_size=50), min_size=1, max_size=4))
def test_counts_are_those_of_the_values_themselves(stretches):
    figures = Figures()
    for stretch in stretches:
        figures.take(snapshot_of(stretch))
    values = [value for stretch in stretches for value in stretch]
    figure, point = turn(figures)
    edges = shape_of("turn_latency").edges
    below = 0
    for edge, count in zip(edges, point.counts, strict=False):
        below += count
        assert below == sum(value <= edge for value in values)
    assert point.size == sum(point.counts) == len(values)
    assert point.value == sum(values) / 1e6
    assert (point.minimum, point.maximum) == (min(values) / 1e6, max(values) / 1e6)
    assert len(figure.bounds) == len(edges)


def test_bounds_lie_close_above_round_numbers_in_order():
    for metric in METRICS:
        bounds = shape_of(metric).bounds
        assert list(bounds) == sorted(set(bounds))
    bounds = shape_of("turn_latency").bounds
    assert min(abs(bound - 300) for bound in bounds) < 300 * 0.004
    assert shape_of("call_duration").unit == "s"
    assert shape_of("call_success").bounds == (0.0,)


def test_sums_since_the_last_export_lose_nothing_while_an_export_hangs():
    gate, sent = threading.Event(), []

    def export(figures, from_ns, to_ns):
        sent.append((figures, from_ns, to_ns))
        gate.wait(10)
        return ""

    sink = Sink("test", "nowhere", export, delta=True, start_unix_ns=1)
    sink.figures.take(snapshot_of([5]))
    sink.offer([], 2)
    for now in (3, 4):
        sink.figures.take(snapshot_of([6, 7]))
        sink.offer([], now)
    threading.Timer(0.1, gate.set).start()
    sink.finish([], 9)
    facts = sink.close(in_time())
    sizes = [[f.points[0].size for f in figures if f.name == "turn.latency"] for figures, _, _ in sent]
    assert sizes == [[1], [4]]
    assert [(a, b) for _, a, b in sent] == [(1, 2), (2, 9)]
    assert (facts.exports, facts.failed, facts.skipped, facts.complete) == (2, 0, 2, True)


def test_an_exporter_that_raises_is_counted_and_told_once():
    def export(*_):
        raise RuntimeError("boom")

    sink = Sink("test", "nowhere", export, delta=False, start_unix_ns=0)
    told = []
    for now in range(3):
        sink.offer([], now)
        until = time.monotonic() + 5
        while sink._busy.is_set() and time.monotonic() < until:
            time.sleep(0.005)
        told.append(sink.trouble())
    sink.finish([], 9)
    facts = sink.close(in_time())
    assert [bool(words) for words in told] == [True, False, False]
    assert "boom" in told[0]
    assert (facts.exports, facts.failed, facts.complete) == (4, 4, False)


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("opentelemetry.exporter.otlp.proto.http.metric_exporter", {"otlp": "http://127.0.0.1:1"}),
        ("azure.monitor.opentelemetry.exporter", {"azure_monitor": True}),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch, module, settings):
    monkeypatch.setitem(sys.modules, module, None)
    environ = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=x"}
    with pytest.raises(BadInputError) as caught:
        Telemetry(TelemetrySettings(**settings), RunIdentity("r", "s", "0"), environ)
    assert "voxload[telemetry]" in str(caught.value)


def test_a_connection_string_that_azure_refuses_is_bad_input():
    environ = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=x"}
    with pytest.raises(BadInputError, match="APPLICATIONINSIGHTS_CONNECTION_STRING: Invalid instrumentation key"):
        Telemetry(TelemetrySettings(azure_monitor=True), RunIdentity("r", "s", "0"), environ)


@pytest.mark.parametrize(
    ("problem", "short"),
    [
        ('Error Pool(port=1): (Caused by New("x: [Errno 111] Connection refused")) while', "Connection refused"),
        (
            "Error ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
            "Connection reset by peer",
        ),
        ("Failed to resolve 'c' ([Errno -2] Name or service not known)", "Name or service not known"),
        ("Failed to export\nspans, reason: Forbidden", "Failed to export spans, reason: Forbidden"),
    ],
)
def test_a_problem_is_told_in_the_words_of_the_system(problem, short):
    assert in_short(problem) == short
