"""The agent on a virtual clock: it does what it was told, to the slot of the wheel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_bench import MS, START_NS, Bench, S, ToneRepertoire, silence, voice

from voxload.audio.corpus import load_corpus
from voxload.audio.speech import active_bounds
from voxload.dialects.base import AudioFormat
from voxload.dialects.rtmed import RtmedCaller, RtmedDialect, RtmedOptions
from voxload.errors import BadInputError
from voxload.twin.agent import FLOOD_MESSAGES
from voxload.twin.hearing import Hearing

QUIET = {"greeting": False}


def told(turn="700ms", **more):
    return {"greeting": False, "latency": {"turn": turn}, **more}


@pytest.mark.parametrize("frame_ms", [20, 100])
@pytest.mark.parametrize("length_ms", [600, 613, 1007])
def test_a_turn_told_700_ms_starts_its_reply_700_ms_after_the_last_active_sample(frame_ms, length_ms):
    bench = Bench(told(), message_rate=1000 // frame_ms)
    call = bench.call()
    bench.run(37)
    end_ns = call.turn(length_ms, frame_ms)
    bench.run(2000)
    frames = call.frames()
    assert 0 <= frames[0] - (end_ns + 700 * MS) <= MS
    # Absolute deadlines: the 50th frame is as exact as the first.
    assert [at_ns - frames[0] for at_ns in frames] == pytest.approx([n * 20 * MS for n in range(50)], abs=MS)


def test_trailing_silence_and_a_late_end_message_do_not_move_the_reply():
    bench = Bench(told())
    call = bench.call()
    begin_ns = bench.now_ns
    call.speak(voice(605))
    call.speak(silence(400))
    call.message(type="end_speech")
    bench.run(2000)
    assert 0 <= call.frames()[0] - (begin_ns + 605 * MS + 700 * MS) <= MS


def test_a_latency_that_has_passed_already_is_answered_at_once():
    bench = Bench(told("100ms"))
    call = bench.call()
    call.speak(voice(600))
    call.speak(silence(400))
    call.message(type="end_speech")
    now_ns = bench.now_ns
    bench.run(100)
    assert 0 <= call.frames()[0] - now_ns <= 2 * MS


def test_stages_add_up_and_the_transcript_comes_after_the_first():
    bench = Bench({"greeting": False, "latency": {"stt": "150ms", "llm": "400ms", "tts": "90ms"}})
    call = bench.call()
    end_ns = call.turn()
    bench.run(2000)
    [(transcript_ns, transcript)] = call.messages("transcript")
    assert 0 <= transcript_ns - (end_ns + 150 * MS) <= MS
    assert 0 <= call.frames()[0] - (end_ns + 640 * MS) <= MS
    assert transcript["text"] == "", "of a tone nothing is claimed"
    opening = call.messages("agent_response")[0][1]
    assert opening["text"] == "whatever you like"
    output_tokens = -(-len(opening["text"]) // 4)
    assert call.messages("agent_response")[-1][1] == {
        "type": "agent_response",
        "final": True,
        "usage": {"input_tokens": 600 - output_tokens, "output_tokens": output_tokens},
    }
    metrics = bench.desk.call_metrics(call.record.call_id)
    assert metrics["turns"] == 1
    assert metrics["frames_out"] == 50
    assert metrics["frames_in"] == 30
    [latency] = metrics["latency_ms"]
    assert (latency["stt"], latency["llm"], latency["tts"]) == (150, 400, 90)
    assert latency["reply"] == pytest.approx(640, abs=1)


def test_the_agent_greets_after_its_delay():
    bench = Bench({"greeting_delay": "250ms"})
    call = bench.call()
    bench.run(1000)
    frames = call.frames()
    assert 0 <= frames[0] - (START_NS + 250 * MS) <= MS
    assert len(frames) == 20


def test_burst_sends_all_at_once():
    bench = Bench(told(delivery="burst"))
    call = bench.call()
    end_ns = call.turn()
    bench.run(701)
    assert len(call.frames()) == 50
    assert max(call.frames()) - (end_ns + 700 * MS) <= MS


def test_without_an_end_message_the_agent_hears_the_silence():
    class Mute(RtmedCaller):
        def end_of_speech(self, unix_ns):
            return None

    class MuteDialect(RtmedDialect):
        def caller(self, identity):
            return Mute(self.target, self.options, identity)

    dialect = MuteDialect("http://twin", RtmedOptions(message_rate=50))
    for latency_ms, expected_ms in ((900, 900), (200, 500)):
        bench = Bench(told(f"{latency_ms}ms"), dialect=dialect)
        call = bench.call()
        call.speak(silence(300))
        end_ns = bench.now_ns + 607 * MS
        call.speak(voice(607))
        call.speak(silence(1500))
        bench.run(100)
        # The detector's windows are 10 ms long; the reply itself counts from the exact last active sample.
        slack_ms = 1 if latency_ms > 500 else 12
        assert 0 <= call.frames()[0] - (end_ns + expected_ms * MS) <= slack_ms * MS
        assert call.record.turns == 1


def test_a_pause_inside_an_utterance_does_not_end_it():
    class MuteDialect(RtmedDialect):
        def caller(self, identity):
            caller = super().caller(identity)
            caller.end_of_speech = lambda unix_ns: None
            return caller

    bench = Bench(told("900ms"), dialect=MuteDialect("http://twin", RtmedOptions(message_rate=50)))
    call = bench.call()
    call.speak(voice(400))
    call.speak(silence(400))
    call.speak(voice(400))
    end_ns = bench.now_ns
    call.speak(silence(1500))
    assert call.record.turns == 1
    assert 0 <= call.frames()[0] - (end_ns + 900 * MS) <= MS


# --- barge-in ---


def test_the_agent_stops_its_delay_after_the_callers_onset_and_answers_the_interruption():
    bench = Bench(told(barge_in_delay="200ms"))
    call = bench.call()
    call.turn()
    bench.run(1000)  # the reply runs since 300 ms
    assert call.frames()
    onset_ns = bench.now_ns
    call.speak(voice(500))
    end_ns = bench.now_ns
    [(stopped_ns, _)] = call.messages("interrupted")
    assert 0 <= stopped_ns - (onset_ns + 200 * MS) <= MS
    assert max(call.frames()) <= stopped_ns
    call.message(type="end_speech")
    bench.run(2500)
    later = call.frames(stopped_ns + 1)
    assert 0 <= later[0] - (end_ns + 700 * MS) <= MS
    assert len(later) == 50
    assert call.record.interruptions == 1
    assert call.record.turns == 2


def test_a_short_noise_does_not_stop_the_agent():
    bench = Bench(told())
    call = bench.call()
    call.turn()
    bench.run(800)
    call.speak(voice(60))
    call.message(type="end_speech")
    bench.run(3000)
    assert not call.messages("interrupted")
    assert len(call.frames()) == 50
    assert call.record.turns == 1


def test_silence_over_the_agent_does_not_stop_it():
    bench = Bench(told())
    call = bench.call()
    call.turn()
    bench.run(700)
    call.speak(silence(1200))
    assert len(call.frames()) == 50
    assert not call.messages("interrupted")


# --- quotas ---


def test_connections_beyond_the_quota_get_503_with_retry_after_and_a_place_comes_free():
    bench = Bench({"quotas": {"connections": 2}})
    first, second = bench.call("1"), bench.call("2")
    refused = bench.call("3")
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert b"connections" in refused.body
    first.agent.on_closed("completed")
    assert bench.call("4").record.call_id != second.record.call_id


def test_a_session_that_never_connects_gives_its_place_back():
    bench = Bench({"quotas": {"connections": 1}})
    pending = bench.desk.admit({"caller_number": "1"})
    assert bench.call("2").status == 503
    bench.now_ns += 31 * S
    bench.wheel.advance(bench.now_ns)
    assert bench.desk.connect(pending).status == 404
    assert bench.call("3").record
    assert bench.desk.call_metrics(pending)["outcome"] == "never_connected"


def test_tokens_wait_reports_429_and_replies_late_by_the_retry_time():
    quotas = {"tokens_per_minute": 600, "tokens_per_turn": 600, "when_exceeded": "wait"}
    bench = Bench(told(quotas=quotas))
    call = bench.call()
    call.turn()
    bench.run(3000)
    end_ns = call.turn()
    taken_ns, _ = call.messages("transcript")[0]
    bench.run(65_000)
    [(_, error)] = call.messages("error")
    assert error["code"] == "429"
    # The bucket is full again 60 s after the first turn took it; the second asked at its transcript.
    asked_ns = call.messages("transcript")[1][0]
    late_ns = taken_ns + 60 * S - asked_ns
    reply_ns = call.frames(end_ns)[0]
    assert reply_ns - (end_ns + 700 * MS + late_ns) == pytest.approx(0, abs=2 * MS)


def test_tokens_fail_gives_no_reply():
    quotas = {"tokens_per_minute": 600, "tokens_per_turn": 600, "when_exceeded": "fail"}
    bench = Bench(told(quotas=quotas))
    call = bench.call()
    call.turn()
    bench.run(3000)
    end_ns = call.turn()
    bench.run(70_000)
    assert len(call.messages("error")) == 1
    assert not call.frames(end_ns)


def test_a_turn_that_can_never_be_paid_is_refused_at_the_start():
    with pytest.raises(BadInputError, match="tokens_per_turn"):
        Bench({"quotas": {"tokens_per_minute": 100, "tokens_per_turn": 600}})


def test_recognisers_are_held_from_speech_to_transcript_and_waited_for():
    bench = Bench({"greeting": False, "latency": {"stt": "300ms", "llm": "1ms", "tts": "1ms"},
                   "quotas": {"concurrent_stt": 1}})  # fmt: skip
    first, second = bench.call("1"), bench.call("2")
    first.speak(voice(200))
    assert bench.desk.stt.in_use == 1
    second.speak(voice(200))
    assert [message["code"] for _, message in second.messages("error")] == ["429"]
    second.message(type="end_speech")
    bench.run(1000)
    assert not second.messages("transcript")
    first.message(type="end_speech")
    bench.run(1)
    [(freed_ns, _)] = first.messages("transcript")
    bench.run(1000)
    [(transcript_ns, _)] = second.messages("transcript")
    assert 300 * MS <= transcript_ns - freed_ns <= 302 * MS
    assert second.frames()
    assert bench.desk.stt.in_use == 0


def test_a_hang_up_gives_the_recogniser_back():
    bench = Bench(told(quotas={"concurrent_stt": 1, "when_exceeded": "fail"}))
    first, second = bench.call("1"), bench.call("2")
    first.speak(voice(200))
    second.turn(200)
    bench.run(2000)
    assert not second.frames()
    first.agent.on_closed("lost")
    assert bench.desk.stt.in_use == 0
    second.turn(200)
    bench.run(2000)
    assert second.frames()


# --- faults ---


def test_silent_turns_get_a_transcript_and_no_reply():
    bench = Bench(told(faults={"silent_rate": 1.0}))
    call = bench.call()
    call.turn()
    bench.run(3000)
    assert call.messages("transcript")
    assert not call.frames()


def test_dropped_calls_are_cut_in_the_middle_of_the_reply():
    bench = Bench(told(faults={"drop_rate": 1.0}))
    call = bench.call()
    call.turn()
    bench.run(3000)
    assert call.closed == 1011
    assert len(call.frames()) == 25
    assert bench.desk.call_metrics(call.record.call_id)["outcome"] == "dropped"
    assert bench.desk.active_calls == 0


def test_garbage_is_not_the_protocol():
    bench = Bench(told(faults={"garbage_rate": 1.0}))
    call = bench.call()
    call.turn()
    bench.run(1000)
    assert [message["type"] for _, message in call.messages()] == ["transcript", "garbage"]


def test_a_flood_is_bounded_and_ends_the_call():
    bench = Bench(told(faults={"flood_rate": 1.0}))
    call = bench.call()
    call.turn()
    bench.run(2000)
    assert len(call.messages("twin_flood")) == FLOOD_MESSAGES
    assert call.closed == 1011


def test_rejected_calls_get_503():
    bench = Bench({"faults": {"reject_rate": 1.0}})
    assert bench.call().status == 503


def test_rates_meet_the_same_calls_for_the_same_seed_in_any_order():
    def rejected(numbers):
        bench = Bench({"faults": {"reject_rate": 0.5}, "seed": 9})
        return {number for number in numbers if getattr(bench.call(number), "status", 0) == 503}

    numbers = [str(number) for number in range(200)]
    forwards = rejected(numbers)
    assert forwards == rejected(numbers[::-1])
    assert 60 < len(forwards) < 140


def test_a_stall_delays_everything_once():
    bench = Bench(told(faults={"stalls": [{"at": "1s", "for": "500ms"}]}))
    call = bench.call()
    call.turn(900)  # the stall falls into the thinking time, from 1,000 to 1,500 ms
    bench.run(4000)
    frames = call.frames()
    assert frames[0] - START_NS == pytest.approx(1600 * MS, abs=MS)
    bench = Bench(told(faults={"stalls": [{"at": "1s", "for": "900ms"}]}))
    call = bench.call()
    call.turn(900)
    bench.run(4000)
    assert call.frames()[0] - START_NS >= 1900 * MS


# --- odds and ends ---


def test_malformed_messages_end_the_call_and_unknown_ones_do_not():
    bench = Bench(QUIET)
    call = bench.call()
    call.message(type="no_such_kind")
    assert call.record.unknown == 1
    assert call.closed is None
    call.agent.on_message(b"{not json", True, bench.now_ns)
    assert call.closed == 1002
    assert bench.desk.call_metrics(call.record.call_id)["outcome"] == "protocol_error"


def test_nothing_is_sent_after_the_call_has_ended():
    bench = Bench()
    call = bench.call()
    bench.run(300)
    call.turn()
    call.agent.on_closed("completed")
    sent = len(call.sent)
    bench.run(3000)
    assert len(call.sent) == sent


def test_calls_are_independent_of_arrival_order():
    def replies(numbers):
        bench = Bench({"greeting": False, "latency": {"turn": {"lognormal": {"median": "500ms", "p95": "900ms"}}}})
        calls = {number: bench.call(number) for number in numbers}
        for call in calls.values():
            call.turn(200)
        bench.run(5000)
        return {number: call.record.latencies_ns[0]["turn"] for number, call in calls.items()}

    assert replies(["1", "2", "3"]) == replies(["3", "1", "2"])
    assert len(set(replies(["1", "2", "3"]).values())) == 3


@settings(max_examples=60, deadline=None)
@given(active=st.integers(900, 30_000), quiet=st.integers(0, 8000), frame_ms=st.sampled_from([10, 20, 40, 100]))
def test_the_end_of_speech_is_exact_to_the_sample(active, quiet, frame_ms):
    form = AudioFormat(16_000, "pcm16", frame_ms)
    hearing = Hearing(form)
    tone = np.full(active, 5000, dtype=np.int16)
    samples = np.concatenate([tone, np.zeros(quiet, dtype=np.int16)])
    samples = np.concatenate([samples, np.zeros(-len(samples) % form.frame_samples, dtype=np.int16)])
    for number, at in enumerate(range(0, len(samples), form.frame_samples), 1):
        hearing.hear(samples[at : at + form.frame_samples].tobytes(), number * frame_ms * MS)
    assert hearing.speech_end_ns() == active * 1_000_000_000 // 16_000


def heard_end(samples, frame_ms):
    hearing = Hearing(AudioFormat(16_000, "pcm16", frame_ms))
    size = 16 * frame_ms
    for at in range(0, len(samples), size):
        frame = samples[at : at + size]
        frame = np.concatenate([frame, np.zeros(size - len(frame), dtype=np.int16)])
        hearing.hear(frame.tobytes(), (at + size) * 62_500)
    return hearing.speech_end_ns()


@pytest.mark.parametrize("frame_ms", [20, 50, 100])
def test_the_end_of_decaying_noise_is_that_of_the_corpus_rule(frame_ms):
    random = np.random.default_rng(4)
    for decay in (20, 60, 200, 1000):
        t = np.arange(16_000)
        envelope = np.where(t < 8000, 1.0, np.exp(-(t - 8000) / (16 * decay)))
        samples = (random.normal(0, 3000, 16_000) * envelope).astype(np.int16)
        assert heard_end(samples, frame_ms) == active_bounds(samples, 16_000)[1] * 62_500


def test_a_faint_blip_long_after_the_speech_does_not_move_its_end():
    blip = np.concatenate([np.full(80, 100, dtype=np.int16), silence(15)])  # active over 5 ms, not over 10
    for gap_ms, counts in ((20, True), (100, False)):
        samples = np.concatenate([voice(400), silence(gap_ms), blip])
        end = active_bounds(samples, 16_000)[1]
        assert (end > 400 * 16) == counts
        assert heard_end(samples, 20) == end * 62_500


@pytest.mark.parametrize("frame_ms", [20, 100])
def test_the_end_of_every_caller_utterance_is_its_label(frame_ms):
    for utterance in load_corpus().callers:
        assert utterance.sample_rate_hz == 16_000
        assert heard_end(utterance.samples, frame_ms) == utterance.active_end_ns, utterance.id


def test_repertoire_payloads_are_shared_between_calls():
    bench = Bench(told())
    assert isinstance(bench.desk.repertoire, ToneRepertoire)
    first, second = bench.call("1"), bench.call("2")
    assert first.agent.exchange(1).reply in {exchange.reply for exchange in bench.desk.repertoire.exchanges}
    assert second.agent.exchange(1) == second.agent.exchange(1)
