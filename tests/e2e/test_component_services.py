"""Component tests of the services behind an agent, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from receivers import attributes, key, points_of, receiving

from voxload.standins.openai.settings import DEVELOPMENT_KEY
from voxload.standins.web import StandInProcess

ENDED = "voxload.operations.ended"
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "components"


def assert_sent_exactly(receiver, done):
    """The receiver has the summary's counts, and each unit of work as a span."""
    found, metrics = points_of(receiver.requests(done.folder.name)[-1])
    outcomes = done.summary.totals.outcomes
    ended = {dict(labels)["outcome"]: found[name, labels].as_double for name, labels in found if name == ENDED}
    assert ended == outcomes
    assert metrics[ENDED].unit == "{operation}"
    for series in done.summary.series:
        name = f"voxload.{series.metric.replace('_', '.')}"
        if series.metric != "loop_lateness":
            assert found[name, key(series.labels)].count == series.histogram.count
    assert found["voxload.operations.concurrent", ()].as_double == 0
    spans = receiver.spans(done.folder.name)
    assert Counter(attributes(span.attributes)["outcome"] for span in spans) == outcomes
    assert len({span.trace_id for span in spans}) == len(spans)
    facts = done.summary.telemetry[1]
    assert (facts.signal, facts.spans, facts.spans_dropped) == ("traces", len(spans), 0)


@pytest.mark.parametrize("kind", ["acs", "redis", "eventgrid", "blob", "http", "speech", "openai"])
def test_the_example_runs_as_it_stands(voxload, kind):
    example = [str(EXAMPLES / f"{kind}.yaml"), "--quiet", "--users", "5", "--duration", "1500ms"]
    with receiving() as receiver:
        done = voxload("component", kind, *example, "--otlp", receiver.url, "--spans", "100%", judged=False)
    assert done.code in {0, 4}, done.out + done.err
    assert_sent_exactly(receiver, done)
    assert set(done.summary.totals.outcomes) == {"completed"}, done.summary.errors
    assert done.summary.facts
    assert "Traceback" not in done.err


def test_ctrl_c_ends_sessions_in_good_order(voxload, redis_server):
    load = {"shape": "concurrency", "concurrency": 5, "duration": "60s"}
    options = {"pause": "500ms", "url": redis_server.url}
    path = voxload.write({"component": "redis", "load": load, "options": options})
    with receiving() as receiver:
        process = voxload.start("component", "redis", str(path), "--quiet", "--otlp", receiver.url, "--spans", "100%")
        while redis_server.dbsize() < 10:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        done = voxload.finish(process, 40)
    assert_sent_exactly(receiver, done)
    assert done.code == 3, done.out + done.err
    assert done.summary.totals.outcomes == {"cancelled": 5}
    assert done.summary.facts["keys left over and removed"] == "0"
    assert redis_server.dbsize() == 0
    assert "Traceback" not in done.err


def test_every_mistake_is_listed(voxload):
    path = voxload.write({"component": "redis", "options": {"url": "http://h", "messages": -1, "pipelined": True}})
    done = voxload("component", "redis", str(path))
    assert done.code == 2
    for words in ("redis://host:6379", "messages", "did you mean pipeline"):
        assert words in done.err, done.err


def test_every_mistake_of_a_speech_test_is_listed(voxload):
    options = {
        "endpoint": "ws://h",
        "language": "English",
        "stt": {"utterances": 0, "pauze": "1s"},
        "tts": {"voice": "Ava"},
    }
    path = voxload.write({"component": "speech", "options": options, "gates": ["p95(stt_final_latency < 1s"]})
    done = voxload("component", "speech", str(path), "--mode", "tts", "--client", "sdk")
    assert done.code == 2
    for words in (
        "ws://h",
        "'English' is not a language",
        "utterances",
        "did you mean pause",
        "'Ava' is not",
        "is not a gate",
    ):
        assert words in done.err, done.err
    assert "Traceback" not in done.err


def test_a_client_is_chosen_where_there_is_a_choice(voxload):
    done = voxload("component", "redis", "--client", "fast")
    assert done.code == 2
    assert "client" in done.err


def test_goodput_and_quota_are_gates_and_in_every_report(voxload):
    told = {"first_token": "100ms", "inter_token": "5ms", "reply_tokens": 11}
    options = {
        "slo": {"time_to_first_token": "5s"},
        "deployments": [{"name": "chat", "tokens_per_minute": 24_000, "requests_per_minute": 6000}],
        "prompt_tokens": 76,
        "max_tokens": 20,
        "service": {"deployments": {"chat": told}},
    }
    load = {"shape": "constant", "arrival_rate": 10, "duration": "2s"}
    gates = ["goodput >= 9", "max(token_quota_used) > 200", "max(token_quota_used) < 300", "slo_met >= 95%"]
    path = voxload.write({"component": "openai", "load": load, "options": options, "gates": gates})
    done = voxload("component", "openai", str(path), "--quiet", "--client", "fast")
    assert done.code in {0, 4}, done.out + done.err
    assert [gate.status for gate in done.summary.gates] == ["pass"] * 4, done.out
    assert done.summary.facts["client"] == "our own requests"
    assert done.summary.levels["goodput"] == 10
    # 10 a second of 76 + 4 + 20 tokens are 60,000 a minute: 250 % of the quota
    words = done.summary.facts["chat: tokens that the quota counts"]
    assert words.endswith(" % of 24,000")
    assert float(words.split()[-4]) == pytest.approx(250, rel=0.05)
    assert done.summary.levels["tokens_per_minute"] == 20 * (80 + 11) / done.summary.run.duration_s * 60
    page, terminal = (done.folder / "report.html").read_text(), " ".join(done.out.split())
    for words in ("Goodput", "Token quota used", "Output speed", "Inter token latency"):
        assert words in terminal, words
        assert words.lower() in page.lower(), words


def test_a_service_that_is_killed_ends_the_run_with_what_was_measured(voxload):
    told = {"first_token": "50ms", "inter_token": "5ms", "reply_tokens": 10}
    with_settings = {"deployments": {"gpt-4o": told}}
    service = StandInProcess("openai", with_settings)
    service.start()
    options = {"endpoint": service.url + "/v1", "api_key": DEVELOPMENT_KEY}
    load = {"shape": "constant", "arrival_rate": 20, "duration": "60s"}
    path = voxload.write({"component": "openai", "load": load, "options": options})
    process = voxload.start("component", "openai", str(path), "--quiet")
    counters = f"{service.url}/voxload/counters"
    while json.load(urllib.request.urlopen(counters))["deployments"]["gpt-4o"].get("answers", 0) < 10:
        time.sleep(0.05)
    os.kill(service.pid, signal.SIGKILL)
    done = voxload.finish(process, 40)
    assert done.code == 3, done.out + done.err
    assert "is gone since" in done.summary.verdict.reasons[0]
    assert done.summary.totals.outcomes["completed"] >= 9, "what was measured is kept"
    assert "Traceback" not in done.err
    assert done.summary.histogram("time_to_first_token").count >= 9
    service.stop()


def test_every_mistake_of_a_chat_file_is_listed(voxload):
    options = {"deployments": [{"nme": "a"}], "prompts": "missing.jsonl", "retries": "many", "client": "curl"}
    path = voxload.write({"component": "openai", "options": options, "gates": ["p95(first_tokn) < 1s"]})
    done = voxload("component", "openai", str(path))
    assert done.code == 2
    for words in ("did you mean name", "missing.jsonl: no such file", "retries", "client"):
        assert words in done.err, done.err
    assert "Traceback" not in done.err


def test_the_use_of_a_service_that_the_command_starts_is_measured(voxload):
    resources = [{"name": "own", "port": "target"}, {"name": "named", "process": "redis-server"}]
    load = {"shape": "constant", "arrival_rate": 5, "duration": "2500ms"}
    path = voxload.write({"component": "redis", "load": load, "resources": resources})
    done = voxload("component", "redis", str(path), "--quiet", judged=False)
    assert done.code in {0, 4}, done.out + done.err
    assert not any("was read" in reason for reason in done.summary.verdict.reasons)
    for name in ("own", "named"):
        assert done.summary.histogram("target_memory", {"resource": name}).count >= 2
        assert done.summary.histogram("target_cpu", {"resource": name}).count >= 2


def test_thresholds_of_a_baseline_stand_in_the_file(voxload):
    document = {"component": "http", "load": {"shape": "constant", "arrival_rate": 60, "duration": "1s"}}
    first = voxload("component", "http", str(voxload.write(document)), "--quiet")
    assert voxload("baseline", "save", str(first.folder), "--to", "base.json").code == 0
    document["regression_thresholds"] = {"response_time_degradation": 900, "error_rate_increase": 7}
    path = str(voxload.write(document))
    done = voxload("component", "http", path, "--quiet", "--baseline", "base.json", "--errors", "8%")
    changes = {change.figure: change.threshold for change in done.summary.baseline.changes}
    assert changes["p50(http_latency)"] == 900
    assert changes["operation_success"] == 8  # the option wins
