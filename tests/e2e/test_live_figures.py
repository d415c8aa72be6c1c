"""Live figures out of a run: what receivers were sent is exactly what the summary says."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections import Counter, defaultdict
from datetime import datetime

import pytest
from conftest import scenario_with, wait_for
from prometheus_client.parser import text_string_to_metric_families
from receivers import attributes, azure_accepts, key, points_of, receiving, resetting

from voxload.measure.histogram import Histogram, bucket_bounds
from voxload.model.metric import METRICS
from voxload.runners.results import read_calls

SECONDS = 1e9
CONNECTION = "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint={};LiveEndpoint={}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def scale_of(metric: str) -> float:
    return 1e6 if METRICS[metric].kind == "latency" and metric != "call_duration" else SECONDS


def name_of(metric: str, prefix: str) -> str:
    return f"{prefix}." + {"voice_response": "voice.latency"}.get(metric, metric.replace("_", "."))


def assert_same_as_summary(request, summary, prefix):
    found, metrics = points_of(request)
    assert len(summary.series) > 15
    for series in summary.series:
        point = found[name_of(series.metric, prefix), key(series.labels)]
        data, scale = series.histogram, scale_of(series.metric)
        assert point.count == data.count == sum(point.bucket_counts)
        assert point.sum == pytest.approx(data.total / scale, rel=1e-12)
        assert (point.min, point.max) == (data.minimum / scale, data.maximum / scale)
        below = 0
        for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
            below += count
            assert below == sum(n for index, n in data.buckets if bucket_bounds(index)[1] <= round(bound * scale))
            assert not any(
                bucket_bounds(index)[0] <= round(bound * scale) < bucket_bounds(index)[1] for index, _ in data.buckets
            ), "a bound across one of our buckets"
    for outcome, count in summary.totals.outcomes.items():
        assert found[f"{prefix}.calls.ended", (("outcome", outcome),)].as_double == count
    assert found[f"{prefix}.frames.sent", ()].as_double == summary.totals.frames_sent
    assert found[f"{prefix}.network.received", ()].as_double == summary.totals.bytes_received
    assert metrics[f"{prefix}.call.duration"].unit == "s"
    assert metrics[f"{prefix}.voice.latency"].unit == "ms"
    assert not metrics[f"{prefix}.calls.concurrent"].sum.is_monotonic
    assert metrics[f"{prefix}.calls.ended"].sum.is_monotonic


def assert_calls_are_spans(receiver, done):
    """Each call of the run is one span, and each of its turns a child, with the times and latencies of the record."""
    records = {record.trace_id: record for record in read_calls(done.folder)}
    sent = receiver.spans(done.folder.name)
    calls = {span.trace_id.hex(): span for span in sent}
    assert len(sent) == sum(done.summary.totals.outcomes.values())
    assert set(calls) == set(records)
    turns = defaultdict(list)
    for span in receiver.spans(done.folder.name, children=True):
        assert span.parent_span_id == calls[span.trace_id.hex()].span_id
        turns[span.trace_id.hex()].append(span)
    begun = datetime.fromisoformat(done.summary.run.started_at).timestamp()
    for trace_id, record in records.items():
        call, told = calls[trace_id], attributes(calls[trace_id].attributes)
        assert (call.name, call.kind, call.status.code) == ("call booking", call.SPAN_KIND_CLIENT, 0)
        assert told["voxload.call_id"] == record.call_id
        assert told["outcome"] == record.outcome == "completed"
        assert (told["phase"], told["region"]) == (record.phase, "westeurope")
        assert (call.end_time_unix_nano - call.start_time_unix_nano) / SECONDS == pytest.approx(
            record.setup_ms / 1e3 + record.duration_s, abs=1e-6
        )
        assert 0 <= call.start_time_unix_nano / SECONDS - record.due_s - begun < 30
        assert [attributes(turn.attributes).get("turn_latency_ms") for turn in turns[trace_id]] == [
            turn.latency_ms for turn in record.turns
        ]
    spans = len(calls) + sum(map(len, turns.values()))
    facts = next(each for each in done.summary.telemetry if each.signal == "traces")
    assert (facts.spans, facts.spans_dropped, facts.complete) == (spans, 0, True)
    assert sum(map(len, turns.values())) == done.summary.histogram("turn_latency").count


def assert_percentiles_are_those_of_the_calls(done):
    """What two processes, of this machine or of two workers, have measured is merged exactly."""
    assert [(shard.shard, shard.calls) for shard in done.summary.shards] == [(0, 10), (1, 10)]
    one = Histogram()
    for call in read_calls(done.folder):
        for turn in call.turns:
            one.record(round(turn.latency_ms * 1e6))
    assert one.count == 20
    merged = done.summary.histogram("turn_latency")
    assert {name: getattr(merged, name) for name in Histogram.__slots__} == {
        name: getattr(one, name) for name in Histogram.__slots__
    }


@pytest.mark.parametrize(
    "where",
    [["--processes", "2"], pytest.param(["--workers", "2", "--master-port", "0", "--processes", "1"], id="workers")],
)
def test_an_otlp_receiver_is_sent_exactly_what_the_summary_says(voxload, where):
    scenario = scenario_with(region="westeurope", telemetry={"prefix": "rtmedagent"})
    with receiving() as receiver:
        done = voxload.run(scenario, *where, "--otlp", f"{receiver.url}/", "--spans", "100%", judged=False)
    assert done.code == 0 or done.fell_behind, done.err
    assert_percentiles_are_those_of_the_calls(done)
    assert receiver.paths == {"/v1/metrics", "/v1/traces"}
    assert_calls_are_spans(receiver, done)
    requests = receiver.requests(done.folder.name)
    assert len(requests) >= 3
    assert_same_as_summary(requests[-1], done.summary, "rtmedagent")
    levels = [points_of(request)[0]["rtmedagent.calls.concurrent", ()].as_double for request in requests]
    assert max(levels) > 0
    assert levels[-1] == 0
    about = attributes(requests[-1].resource_metrics[0].resource.attributes)
    assert about["service.name"] == "voxload"
    assert about["voxload.run.id"] == done.summary.run.run_id
    assert (about["voxload.scenario"], about["cloud.region"]) == ("test", "westeurope")
    facts = done.summary.telemetry[0]
    assert (facts.kind, facts.exports, facts.failed, facts.complete) == ("otlp", len(requests), 0, True)
    assert "telemetry" not in done.err


def test_prometheus_scrapes_the_run_while_it_goes_on(voxload):
    scenario = scenario_with(load={"shape": "constant", "arrival_rate": 10, "duration": "3s"})
    process = voxload.start("run", str(voxload.write(scenario)), "--quiet", "--prometheus", f"127.0.0.1:{free_port()}")
    line = process.stdout.readline()
    url = re.search(r"http://\S+/metrics", line)[0]
    scrapes: list[dict[str, object]] = []

    def scrape() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return process.poll() is not None
        scrapes.append({family.name: family for family in text_string_to_metric_families(text)})
        return process.poll() is not None

    wait_for(scrape)
    done = voxload.finish(process)
    assert done.code in {0, 4}, done.err
    assert any(scraped.get("voxload_calls_concurrent") for scraped in scrapes)
    last = next(each for each in reversed(scrapes) if "voxload_turn_latency_milliseconds" in each)
    samples = last["voxload_turn_latency_milliseconds"].samples
    assert last["voxload_turn_latency_milliseconds"].type == "histogram"
    count = sum(sample.value for sample in samples if sample.name.endswith("_count"))
    within = defaultdict(list)
    for sample in samples:
        if sample.name.endswith("_bucket"):
            within[sample.labels["turn"]].append((float(sample.labels["le"]), sample.value))
    assert 0 < count <= done.summary.histogram("turn_latency").count
    assert sum(buckets[-1][1] for buckets in within.values()) == count
    assert all(buckets == sorted(buckets) for buckets in within.values())
    started = [each["voxload_calls_started"].samples[0].value for each in scrapes if "voxload_calls_started" in each]
    assert started == sorted(started)
    assert done.summary.telemetry[0].exports == len(scrapes)


def test_application_insights_is_sent_what_is_new_each_time_by_its_own_exporter(voxload, monkeypatch):
    with receiving(azure_accepts) as receiver:
        monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", CONNECTION.format(receiver.url, receiver.url))
        done = voxload.run(scenario_with(telemetry={"azure_monitor": True, "spans": 1}), judged=False)
    assert done.code == 0 or done.fell_behind, done.err
    counts, sums = Counter(), Counter()
    dependencies = [
        each for each in receiver.envelopes(done.folder.name) if each["data"]["baseType"] == "RemoteDependencyData"
    ]
    operations = {each["tags"]["ai.operation.id"] for each in dependencies}
    assert operations == {record.trace_id for record in read_calls(done.folder)}
    assert len(dependencies) == done.summary.telemetry[1].spans
    assert all(each["data"]["baseData"]["success"] for each in dependencies)
    for envelope in receiver.envelopes(done.folder.name):
        if envelope["data"]["baseType"] != "MetricData":
            continue
        assert envelope["iKey"].endswith("1")
        assert envelope["tags"]["ai.cloud.role"] == "voxload"
        assert envelope["tags"]["ai.cloud.roleInstance"] == done.summary.run.run_id
        (metric,) = envelope["data"]["baseData"]["metrics"]
        counts[metric["name"]] += metric.get("count", 1)
        sums[metric["name"]] += metric["value"]
    for metric in ("turn_latency", "call_duration", "voice_response", "call_success"):
        whole = done.summary.histogram(metric)
        assert counts[name_of(metric, "voxload")] == whole.count
        assert sums[name_of(metric, "voxload")] == pytest.approx(whole.total / scale_of(metric))
    assert sums["voxload.calls.ended"] == sum(done.summary.totals.outcomes.values())
    assert len(receiver.posted) >= 3
    assert not {name for name in counts if not name.startswith(("voxload.", "_OTELRESOURCE_"))}


def hanging(_path: str, _body: bytes) -> tuple[int, bytes]:
    threading.Event().wait(30)
    return 200, b""


@pytest.mark.parametrize("trouble", ["down", "resets", "refuses", "hangs"])
def test_a_receiver_in_trouble_does_not_disturb_the_run(voxload, trouble):
    answer = {"refuses": lambda *_: (403, b"no"), "hangs": hanging}.get(trouble, lambda *_: (200, b""))
    script = ["wait_for_agent", {"say": "opening_hours"}, "wait_for_agent"]
    load = {"shape": "constant", "arrival_rate": 12, "duration": "1s"}
    scenario = scenario_with(gates=["call_success >= 99%"], calls=[{"name": "short", "script": script}], load=load)
    with receiving(answer) as receiver, resetting() as resets:
        url = {"down": f"http://127.0.0.1:{free_port()}", "resets": resets}.get(trouble, receiver.url)
        done = voxload.run(scenario, "--otlp", url, "--spans", "1", judged=False)
    assert (done.code, done.summary.verdict.status) == (0, "passed") or done.fell_behind, done.err
    said = " ".join((done.out + done.err).split())
    assert said.count("takes no figures") <= 1
    assert "does not have the run's last figures" in said
    facts, spans = done.summary.telemetry
    assert (spans.signal, spans.spans, spans.complete) == ("traces", 0, False)
    assert spans.spans_dropped == sum(1 + len(record.turns) for record in read_calls(done.folder))
    assert f"otlp: {spans.spans_dropped} of {spans.spans_dropped} spans dropped" in said
    assert not facts.complete
    assert facts.error
    assert facts.failed == facts.exports
    if trouble == "refuses":
        assert facts.failed >= 3
    else:
        assert facts.failed + facts.skipped >= 2


def test_wrong_telemetry_is_told_before_the_first_call(voxload, monkeypatch):
    monkeypatch.delenv("APPLICATIONINSIGHTS_CONNECTION_STRING", raising=False)
    done = voxload.run(scenario_with(), "--azure-monitor")
    assert done.code == 2
    assert "APPLICATIONINSIGHTS_CONNECTION_STRING is not set" in done.err
    done = voxload.run(scenario_with(telemetry={"otlp": "collector:4318", "prometheus": "9464", "intervall": "1s"}))
    assert done.code == 2
    assert all(words in done.err for words in ("http://", "HOST:PORT", "did you mean interval"))
    assert len(re.findall(r"scenario\.yaml:\d+", done.err)) == 3
    done = voxload.run(scenario_with(telemetry={"otlp": "http://collector:99999", "spans": "all"}))
    assert done.code == 2
    assert "no address such as" in done.err and "no share of the calls" in done.err
    for options in (["--spans", "10%"], ["--otlp", "http://"], ["--otlp", "http://a:b"], ["--spans", "0"]):
        done = voxload.run(scenario_with(), *options)
        assert (done.code, "Traceback" in done.err) == (2, False), done.err
    with receiving() as taken:
        done = voxload.run(scenario_with(), "--prometheus", taken.url.removeprefix("http://"))
    assert done.code == 2
    assert "cannot be listened at" in done.err
