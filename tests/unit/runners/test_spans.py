"""Calls as spans: which go out, with what times and status, and that none is lost without being counted."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from voxload.clock import monotonic_ns
from voxload.engine.tracing import span_id, trace_id_of
from voxload.measure.summary import CallMoment, CallRecord, TurnRecord
from voxload.model.outcome import NOT_ATTEMPTED, Outcome
from voxload.model.telemetry import TelemetrySettings, parse_spans
from voxload.runners.telemetry import span_sink
from voxload.runners.telemetry.live import RunIdentity, Telemetry, closed
from voxload.runners.telemetry.origin import CALLS, OPERATIONS, beside_calls
from voxload.runners.telemetry.span_sink import Batch, Sampler, SpanSink
from voxload.runners.telemetry.spans import spans_of

START = 1_700_000_000_000_000_000
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def call(number=0, outcome="completed", turns=0, **more):
    known = {"setup_ms": 100.0, "duration_s": 2.0, **more}
    told = [TurnRecord(f"t{each}", 1.0 + each, 300.0) for each in range(turns)]
    return CallRecord(number, f"c{number}", "booking", "hold", 5.0, outcome, turns=told, **known)


def batch(records, origin=CALLS):
    return Batch(records, origin, "run-1", START)


def soon(seconds=5.0):
    return monotonic_ns() + round(seconds * 1e9)


def test_a_call_lies_between_its_intended_start_and_its_end_with_its_turns_below():
    turn = TurnRecord(
        "t", 1.5, 300.0, speech_start_s=0.5, reply_start_s=1.8, reply_end_s=2.0, stages_ms={"stt": 80.0}, said="secret"
    )
    record = CallRecord(
        3, "c", "booking", "hold", 5.0, "completed", 2.0, 100.0, [turn], persona="calm", target="west",
        moments=[CallMoment(1.0, "underrun", "text", 0.2)],
    )  # fmt: skip
    told, below = spans_of(record, CALLS, TRACE, START)
    due = START + 5_000_000_000
    assert (told.start_unix_ns, told.end_unix_ns) == (due, due + 2_100_000_000)
    assert (told.name, told.trace_id, told.span_id, told.parent_id) == ("call booking", TRACE, span_id(TRACE), "")
    expected = {"voxload.call_id": "c", "call": "booking", "persona": "calm", "phase": "hold", "target": "west"}
    assert told.attributes == {**expected, "outcome": "completed", "setup_ms": 100.0}
    assert [(event.name, event.at_unix_ns - due) for event in told.events] == [
        ("call_setup", 100_000_000),
        ("underrun", 1_000_000_000),
    ]
    assert told.error == ""
    assert (below.start_unix_ns - due, below.end_unix_ns - due) == (500_000_000, 2_000_000_000)
    assert (below.parent_id, below.trace_id) == (told.span_id, TRACE)
    assert below.attributes == {"turn": "t", "turn_latency_ms": 300.0, "stt_ms": 80.0}
    assert "secret" not in repr((told, below)), "what was said is not sent"


def test_a_call_that_never_was_up_ends_when_it_was_given_up():
    record = call(outcome="setup_timeout", setup_ms=None, duration_s=0.0, ended_after_s=3.0, error="not ready")
    (span,) = spans_of(record, CALLS, TRACE, START)
    assert span.end_unix_ns - span.start_unix_ns == 3_000_000_000
    assert (span.error, span.attributes["error.type"]) == ("not ready", "setup_timeout")


def test_an_unanswered_turn_has_failed_and_one_that_broke_off_has_not():
    turns = [TurnRecord("a", 1.0, None, problems=["no reply within 3 s"]), TurnRecord("b", 2.0, 9.0, problems=["gap"])]
    record = CallRecord(0, "c", "booking", "hold", 0.0, "agent_silent", 2.0, 1.0, turns)
    _, first, second = spans_of(record, CALLS, TRACE, START)
    assert (first.error, second.error) == ("no reply within 3 s", "")
    assert second.attributes["problems"] == ("gap",)


def test_work_of_services_says_which():
    (span,) = spans_of(call(), OPERATIONS, TRACE, START)
    assert (span.name, span.attributes["component"]) == ("component booking", "booking")
    (span,) = spans_of(call(), beside_calls("cache"), TRACE, START)
    assert span.attributes["probe"] == "cache"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_failed_calls_always_go_out(outcome):
    failed = outcome is not Outcome.COMPLETED and (outcome not in NOT_ATTEMPTED or outcome is Outcome.INTERNAL_ERROR)
    assert Sampler(0.0).takes(call(outcome=str(outcome)), TRACE) is failed
    (span,) = spans_of(call(outcome=str(outcome)), CALLS, TRACE, START)
    assert bool(span.error) is failed


@given(st.integers(0, 2**128 - 1), st.floats(0, 1))
def test_a_share_is_that_of_opentelemetry(trace_id, share):
    decision = TraceIdRatioBased(share).should_sample(None, trace_id, "x").decision
    assert Sampler(share).takes(call(), f"{trace_id:032x}") is (decision is Decision.RECORD_AND_SAMPLE)


def test_a_share_is_kept():
    records = [call(number, trace_id=trace_id_of(str(number))) for number in range(4000)]
    kept = sum(1 for _ in batch(records).chosen(Sampler(0.1)))
    assert 320 < kept < 480


def test_every_span_is_either_taken_or_dropped(monkeypatch):
    monkeypatch.setattr(span_sink, "QUEUE_CALLS_MAX", 10)
    gate, sent = threading.Event(), []

    def export(spans):
        gate.wait(10)
        sent.append(list(spans))
        return (1, "refused") if len(sent) == 1 else (0, "")

    sink = SpanSink("otlp", "nowhere", export, 1.0)
    sink.offer(batch([call(0, turns=2)]))  # 3 spans, of which one is refused
    sink.offer(batch([call(number, turns=1) for number in range(1, 31)]))  # at most 11 find a place
    assert "queue was full" in sink.trouble()
    gate.set()
    facts = sink.close(soon())
    assert facts.spans + facts.spans_dropped == 3 + 60
    assert facts.spans == sum(map(len, sent)) - 1 in {20, 22}
    assert (facts.failed, facts.complete, facts.error) == (1, False, "refused")
    assert sink.trouble() == ""


def test_the_end_does_not_wait_for_a_receiver_that_hangs():
    gate = threading.Event()
    sink = SpanSink("otlp", "nowhere", lambda _: (gate.wait(20) and 0, ""), 0.0)
    sink.offer(batch([call(0, "rejected"), call(1), call(2, "rejected", turns=1)]))
    sink.offer(batch([call(3, "rejected")]))
    facts = sink.close(soon(0.2))
    assert (facts.spans, facts.spans_dropped, facts.complete) == (0, 4, False)
    assert facts.error
    gate.set()


def test_ctrl_c_ends_the_waiting_and_keeps_the_count():
    gate = threading.Event()
    waits = []

    class Interrupted(SpanSink):
        def close(self, deadline_ns):
            waits.append(deadline_ns)
            if len(waits) == 1:
                raise KeyboardInterrupt
            return super().close(deadline_ns)

    sinks = [Interrupted("otlp", "nowhere", lambda _: (gate.wait(20) and 0, ""), 1.0) for _ in range(2)]
    for sink in sinks:
        sink.offer(batch([call(0)]))
    facts = closed(sinks, soon(20))
    assert [each.spans_dropped for each in facts] == [1, 1]
    assert waits[1:] == [0, 0]
    gate.set()


def test_an_exporter_that_raises_does_not_end_the_thread():
    def export(_):
        raise OSError("boom")

    sink = SpanSink("otlp", "nowhere", export, 1.0)
    for number in range(3):
        sink.offer(batch([call(number)]))
    facts = sink.close(soon())
    assert (facts.spans_dropped, facts.failed, "boom" in facts.error) == (3, 3, True)


def test_without_a_traceparent_each_call_of_each_run_has_a_trace_of_its_own():
    batches = [
        batch([call(0), call(1)]),
        batch([call(0)], beside_calls("a")),
        batch([call(0)], beside_calls("b")),
        Batch([call(0)], CALLS, "run-1", START + 1),
        Batch([call(0)], CALLS, "run-2", START),
    ]
    traces = [trace_id for each in batches for _, trace_id in each.chosen(Sampler(1.0))]
    assert len(set(traces)) == len(traces) == 6


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), (0.25, 0.25), (1, 1.0), ("failed", 0.0), ("off", None), (False, None)]
)
def test_shares_as_people_write_them(text, share):
    assert parse_spans(text) == share
    assert TelemetrySettings.model_validate({"spans": text}).spans == share


@pytest.mark.parametrize("text", [0, "0%", -1, "101%", "worst", True, "nan", "inf"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ValueError, match="failed or off"):
        parse_spans(text)


def test_spans_need_a_receiver():
    with pytest.raises(Exception, match="spans have no receiver"):
        Telemetry(TelemetrySettings.model_validate({"spans": 1}), RunIdentity("r", "s", "0"), {})


@pytest.mark.parametrize(
    "text", ["http://", "http://:4318", "http://a:b", "http://a:99999", "http://a b", "http://[::"]
)
def test_addresses_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="is no address such as"):
        TelemetrySettings.model_validate({"otlp": text})


@pytest.mark.parametrize("end", ["", "/", "/v1/metrics", "/v1/traces"])
def test_the_address_of_one_signal_is_that_of_all(end):
    assert TelemetrySettings.model_validate({"otlp": f"https://c:4318{end}"}).otlp == "https://c:4318"
