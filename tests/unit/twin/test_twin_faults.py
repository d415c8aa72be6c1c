"""The agent's settable faults on a virtual clock: each does exactly what it says, as often as it was told."""

import base64
import json

import numpy as np
import pytest
from twin_bench import MS, START_NS, Bench, silence, voice

from voxload.audio.codec import decode_audio
from voxload.audio.playout import Ear
from voxload.dialects.rtmed import RtmedDialect, RtmedOptions
from voxload.model.twin import TwinSettings
from voxload.twin.replies import CorpusRepertoire
from voxload.twin.speaking import PreparedReply


def told(**more):
    return {"greeting": False, "latency": {"turn": "700ms"}, **more}


def faulty(**faults):
    return told(faults=faults)


def heard(call, since_ns=0):
    """All samples that the agent has sent, frame after frame."""
    parts = [
        decode_audio(base64.b64decode(message["audio"]), "pcm16")
        for _, message in call.messages("agent_response", since_ns)
        if "audio" in message
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def faults_of(call):
    return call.bench.desk.call_metrics(call.record.call_id)["faults"]


# --- stopping for the caller ---


@pytest.mark.parametrize("delay_ms", [200, 207, 333, 460])
@pytest.mark.parametrize("lead_ms", [0, 7, 13])
def test_the_agent_falls_silent_to_the_sample_its_delay_after_the_callers_onset(delay_ms, lead_ms):
    bench = Bench(told(barge_in_delay=f"{delay_ms}ms"))
    call = bench.call()
    call.turn()
    bench.run(1000)
    onset_ns = bench.now_ns + lead_ms * MS
    call.speak(np.concatenate([silence(lead_ms), voice(600)]))
    [(stopped_ns, _)] = call.messages("interrupted")
    assert 0 <= stopped_ns - (onset_ns + delay_ms * MS) <= MS
    audio = heard(call)
    start_ns = call.frames()[0]
    spoken = np.flatnonzero(audio)[-1] + 1
    # The reply starts in a slot of the wheel, so this instant is known to 1 ms; the cut itself is exact to the sample.
    assert start_ns + spoken * 62_500 - (onset_ns + delay_ms * MS) == pytest.approx(0, abs=MS)
    assert max(call.frames()) < onset_ns + delay_ms * MS
    assert len(audio) - spoken < 320


def test_a_burst_is_interrupted_its_delay_after_the_onset():
    bench = Bench(told(barge_in_delay="250ms", delivery="burst"))
    call = bench.call()
    call.turn()
    bench.run(900)
    onset_ns = bench.now_ns
    call.speak(voice(500))
    [(stopped_ns, _)] = call.messages("interrupted")
    assert 0 <= stopped_ns - (onset_ns + 250 * MS) <= MS
    assert len(call.frames()) == 50


def test_a_reply_without_raw_audio_stops_between_two_frames():
    bench = Bench(told(barge_in_delay="207ms"))
    for exchange in bench.desk.repertoire.exchanges:
        object.__setattr__(exchange, "reply", PreparedReply("x", exchange.reply.payloads, exchange.reply.frame_ns))
    call = bench.call()
    call.turn()
    bench.run(1000)
    onset_ns = bench.now_ns
    call.speak(voice(500))
    assert max(call.frames()) < onset_ns + 207 * MS
    assert len(heard(call)) == 320 * len(call.frames())
    assert len(call.messages("interrupted")) == 1


def backchannel(bench, length_ms):
    """Say something short over the agent and go on listening, as a person does."""
    call = bench.call()
    call.turn()
    bench.run(800)
    onset_ns = bench.now_ns
    call.speak(np.concatenate([voice(length_ms), silence(900 - length_ms)]))
    bench.run(1500)
    return call, onset_ns


@pytest.mark.parametrize("length_ms", [60, 150, 390])
def test_a_backchannel_does_not_stop_the_agent(length_ms):
    call, _ = backchannel(Bench(told(backchannel_tolerance="400ms")), length_ms)
    assert not call.messages("interrupted")
    assert len(call.frames()) == 50
    call.message(type="end_speech")


def test_a_backchannel_that_is_ended_by_message_is_no_turn():
    bench = Bench(told(backchannel_tolerance="400ms"))
    call = bench.call()
    call.turn()
    bench.run(800)
    call.speak(voice(300))
    call.message(type="end_speech")
    bench.run(3000)
    assert call.record.turns == 1
    assert len(call.frames()) == 50


def test_longer_speech_stops_it_as_soon_as_it_is_known_to_be_longer():
    call, onset_ns = backchannel(Bench(told(backchannel_tolerance="400ms")), 500)
    [(stopped_ns, _)] = call.messages("interrupted")
    assert 0 <= stopped_ns - (onset_ns + 400 * MS) <= 2 * MS


def test_an_agent_may_stop_for_a_backchannel_all_the_same():
    settings = told(backchannel_tolerance="400ms", faults={"false_barge_in_rate": 1.0})
    call, onset_ns = backchannel(Bench(settings), 150)
    [(stopped_ns, _)] = call.messages("interrupted")
    assert 0 <= stopped_ns - (onset_ns + 200 * MS) <= MS
    assert faults_of(call) == {"false_barge_in": 1}
    real, onset_ns = backchannel(Bench(settings), 600)  # a true interruption is no false one
    assert real.messages("interrupted")[0][0] - (onset_ns + 200 * MS) <= MS


def test_an_agent_that_does_not_yield_finishes_and_then_answers():
    bench = Bench(faulty(ignore_barge_in_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(800)
    call.speak(voice(200))
    call.message(type="end_speech")
    bench.run(4000)
    assert not call.messages("interrupted")
    assert call.record.turns == 2
    assert len(call.frames()) == 100
    assert faults_of(call) == {"ignore_barge_in": 1}


def test_the_answer_to_words_that_were_talked_down_waits_for_the_end_of_the_reply():
    bench = Bench(told(latency={"turn": "300ms"}, faults={"ignore_barge_in_rate": 1.0}))
    call = bench.call()
    call.turn()
    bench.run(400)
    call.speak(voice(200))
    call.message(type="end_speech")
    bench.run(3000)
    frames = call.frames()
    assert len(frames) == 100
    assert [at_ns - frames[0] for at_ns in frames] == pytest.approx([n * 20 * MS for n in range(100)], abs=MS)


# --- what was understood ---


def corpus_bench(message_rate, **faults):
    dialect = RtmedDialect("http://twin", RtmedOptions(message_rate=message_rate))
    bench = Bench(faulty(**faults), dialect=dialect)
    bench.desk.repertoire = CorpusRepertoire(dialect, 0.1)
    return bench


def say(call, utterance, frame_ms=20, gain=1.0, whole=True):
    size = 16 * frame_ms
    samples = utterance.samples if whole else utterance.samples[: -(-utterance.active_end // size) * size]
    call.speak((samples * gain).astype(np.int16), frame_ms)
    call.message(type="end_speech")
    call.bench.run(1000)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("message_rate", [10, 50])
def test_the_transcript_is_what_this_caller_said(message_rate, whole, corpus):
    bench = corpus_bench(message_rate)
    call = bench.call()
    for utterance in corpus.callers:
        say(call, utterance, 1000 // message_rate, whole=whole)
    told_texts = [(message["text"], message["intent"]) for _, message in call.messages("transcript")]
    assert told_texts == [(utterance.text, utterance.intent) for utterance in corpus.callers]
    replies = [message["text"] for _, message in call.messages("agent_response") if "text" in message]
    assert replies == [corpus.reply(utterance.intent).text for utterance in corpus.callers]


def test_of_unknown_audio_nothing_is_claimed(corpus):
    bench = corpus_bench(50)
    call = bench.call()
    say(call, corpus.callers[0], gain=0.9)
    [(_, transcript)] = call.messages("transcript")
    assert transcript["text"] == ""
    assert "intent" not in transcript
    [reply] = [message["text"] for _, message in call.messages("agent_response") if "text" in message]
    assert reply == corpus.reply("generic").text


def test_intent_errors_name_another_intent_and_keep_the_text(corpus):
    bench = corpus_bench(10, intent_error_rate=0.3)
    wrong = total = 0
    for number in range(12):
        call = bench.call(str(number))
        for utterance in corpus.callers[::3]:
            say(call, utterance, 100)
        transcripts = [message for _, message in call.messages("transcript")]
        errors = 0
        for utterance, transcript in zip(corpus.callers[::3], transcripts, strict=True):
            assert transcript["text"] == utterance.text
            errors += transcript["intent"] != utterance.intent
        assert faults_of(call).get("intent_error", 0) == errors
        wrong, total = wrong + errors, total + len(transcripts)
    assert 0.15 < wrong / total < 0.45


# --- what is sent ---


def test_underruns_are_a_hole_of_exactly_the_stated_length():
    bench = Bench(faulty(underruns={"rate": 1.0, "gap": "330ms"}))
    call = bench.call()
    call.turn()
    bench.run(3000)
    frames = call.frames()
    expected = [n * 20 * MS + (330 * MS if n >= 25 else 0) for n in range(50)]
    assert [at_ns - frames[0] for at_ns in frames] == pytest.approx(expected, abs=MS)
    assert faults_of(call) == {"underrun": 1}


def test_a_hole_in_a_burst_is_one_for_the_listener():
    bench = Bench(told(delivery="burst", faults={"underruns": {"rate": 1.0, "gap": "330ms"}}))
    call = bench.call()
    call.turn()
    bench.run(3000)
    frames = call.frames()
    assert [at_ns - frames[0] for at_ns in frames] == pytest.approx([0] * 25 + [830 * MS] * 25, abs=MS)


@pytest.mark.parametrize("delivery", ["paced", "burst"])
def test_the_ear_hears_one_underrun_in_every_reply_of_the_corpus(delivery):
    dialect = RtmedDialect("http://twin", RtmedOptions(message_rate=50))
    bench = Bench(told(delivery=delivery, faults={"underruns": {"rate": 1.0, "gap": "300ms"}}), dialect=dialect)
    bench.desk.repertoire = CorpusRepertoire(dialect)
    for number, exchange in enumerate(bench.desk.repertoire.exchanges[::4]):
        bench.desk.repertoire.exchanges = (exchange,)
        call = bench.call(str(number))
        call.turn()
        bench.run(6000)
        ear = Ear(16_000, "pcm16", 0)
        for at_ns, message in call.messages("agent_response"):
            if "audio" in message:
                ear.hear(base64.b64decode(message["audio"]), at_ns)
        assert ear.playout.underruns == 1 or delivery == "paced"  # paced frames jitter by a slot of the wheel
        assert ear.playout.underrun_ns == pytest.approx(300 * MS, abs=2 * MS)


def test_late_frames_are_late_by_so_much_and_the_others_are_not():
    bench = Bench(faulty(late_frames={"rate": 0.1, "by": "15ms"}))
    late = 0
    for number in range(10):
        call = bench.call(str(number))
        call.turn()
        bench.run(2000)
        frames = call.frames()
        begin_ns = call.start_ns + 1300 * MS
        for index, at_ns in enumerate(frames):
            offset_ms = round((at_ns - begin_ns) / MS - 20 * index)
            assert offset_ms in {0, 1, 15, 16}
            late += offset_ms >= 15
    assert 25 <= late <= 80  # of 500


def test_frames_behind_a_very_late_one_wait_for_it():
    bench = Bench(faulty(late_frames={"rate": 0.05, "by": "90ms"}))
    call = bench.call()
    call.turn()
    bench.run(3000)
    frames = call.frames()
    sequence = [message["sequence"] for _, message in call.messages("agent_response") if "sequence" in message]
    assert sequence == list(range(50))
    assert frames == sorted(frames)
    assert max(np.diff(frames)) >= 80 * MS


def test_truncated_replies_end_in_the_middle_as_if_they_were_complete():
    bench = Bench(faulty(truncated_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(3000)
    assert len(call.frames()) == 25
    final = [at_ns for at_ns, message in call.messages("agent_response") if message.get("final")]
    assert final == [call.frames()[-1]]
    assert call.closed is None
    call.turn()
    bench.run(3000)
    assert len(call.frames()) == 50


def test_empty_replies_are_announced_and_closed_without_audio():
    bench = Bench(faulty(empty_audio_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(2000)
    opening, closing = (message for _, message in call.messages("agent_response"))
    assert opening["text"]
    assert closing["final"] is True
    assert not call.frames()
    call.turn()
    bench.run(2000)
    assert call.record.turns == 2


def test_clipped_replies_are_at_full_scale():
    bench = Bench(faulty(clipped_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(2000)
    samples = np.abs(heard(call).astype(int))
    assert len(samples) == 16_000
    assert (samples >= 32_767).mean() > 0.8


def test_wrong_replies_play_twice_as_fast_and_an_octave_higher():
    bench = Bench(faulty(wrong_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(2000)
    samples = heard(call)
    assert len(samples) == 8000
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    assert np.argmax(spectrum) * 2 == pytest.approx(1000, abs=5)  # the tone is 500 Hz


# --- greetings and manners ---


def test_a_late_greeting():
    bench = Bench({"greeting_delay": "200ms", "faults": {"late_greeting": {"rate": 1.0, "by": "3s"}}})
    call = bench.call()
    bench.run(5000)
    assert call.frames()[0] - START_NS == pytest.approx(3200 * MS, abs=MS)


def test_a_missing_greeting_leaves_the_turns_alone():
    bench = Bench({"latency": {"turn": "100ms"}, "faults": {"missing_greeting_rate": 1.0}})
    call = bench.call()
    bench.run(3000)
    assert not call.frames()
    call.turn()
    bench.run(2000)
    assert len(call.frames()) == 50


def test_the_agent_speaks_into_an_utterance_yields_and_answers_at_its_end():
    bench = Bench(told(faults={"agent_interruption_rate": 1.0, "agent_interruption_after": "400ms"}))
    call = bench.call()
    bench.run(100)
    call.speak(silence(200))
    onset_ns = bench.now_ns
    end_ns = call.turn(1500)
    bench.run(3000)
    frames = call.frames()
    assert 0 <= frames[0] - (onset_ns + 400 * MS) <= MS
    [(stopped_ns, _)] = call.messages("interrupted")
    assert stopped_ns - (onset_ns + 600 * MS) == pytest.approx(0, abs=2 * MS)  # barge_in_delay after its own start
    assert call.frames(stopped_ns + 1)[0] - (end_ns + 700 * MS) == pytest.approx(0, abs=MS)
    assert call.record.turns == 1
    assert faults_of(call) == {"agent_interruption": 1}


def test_the_agent_does_not_speak_into_what_is_over():
    bench = Bench(told(faults={"agent_interruption_rate": 1.0, "agent_interruption_after": "900ms"}))
    call = bench.call()
    end_ns = call.turn(600)
    bench.run(3000)
    assert 0 <= call.frames()[0] - (end_ns + 700 * MS) <= MS
    assert faults_of(call) == {}


def test_an_utterance_that_ends_right_after_the_interruption_is_still_a_turn():
    bench = Bench(told(faults={"agent_interruption_rate": 1.0, "agent_interruption_after": "400ms"}))
    call = bench.call()
    end_ns = call.turn(450)
    bench.run(3000)
    assert call.record.turns == 1
    assert any(0 <= at_ns - (end_ns + 700 * MS) <= MS for at_ns in call.frames())


# --- settings ---


def test_each_fault_strikes_the_same_calls_whatever_the_other_rates_are():
    def truncated(**more):
        bench = Bench(faulty(truncated_rate=0.4, **more))
        calls = [bench.call(str(number)) for number in range(40)]
        for call in calls:
            call.turn(100)
        bench.run(2500)
        return {number for number, call in enumerate(calls) if "truncated" in faults_of(call)}

    alone = truncated()
    assert 6 <= len(alone) <= 26
    assert truncated(late_frames={"rate": 0.2, "by": "10ms"}, clipped_rate=0.5, intent_error_rate=0.5) == alone


def test_faults_are_counted_in_the_exposition():
    bench = Bench(faulty(truncated_rate=1.0))
    call = bench.call()
    call.turn()
    bench.run(2000)
    assert b'twin_faults_total{fault="truncated"} 1.0' in bench.desk.meters.expose()
    assert json.dumps(bench.desk.call_metrics(call.record.call_id))


@pytest.mark.parametrize(
    "wrong", [{"wrong_rate": 2}, {"underruns": {"rate": 1, "gap": 0}}, {"late_frames": {"rate": 1}}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TwinSettings.model_validate({"faults": wrong})
