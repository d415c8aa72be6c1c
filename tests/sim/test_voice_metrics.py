"""Every voice metric against an agent that does exactly what it was told, on the virtual clock."""

import io
import wave

import pytest
from msgspec.structs import replace
from test_virtual_run import SLOTS_MS, at, play, scenario

from voxload.audio.corpus import load_corpus
from voxload.measure.collector import Collector
from voxload.model.metric import SCALE
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualWorld

TURN = [{"say": "book_appointment"}, "wait_for_agent"]


def call(*script, name="c"):
    return [{"name": name, "script": list(script)}]


def agent(**changes):
    return {"greeting": False, "latency": {"turn": "700ms"}} | changes


def mean(collector: Collector, metric: str) -> float:
    histogram = collector.histogram(metric)
    assert histogram.mean is not None, metric
    return histogram.mean / SCALE


def problems(collector: Collector) -> set[str]:
    return {problem for record in collector.worst_calls() for turn in record.turns for problem in turn.problems}


def test_a_clean_call_has_clean_metrics():
    collector = play(calls=call("wait_for_agent", *TURN), twin={"latency": {"turn": "700ms"}})
    assert at(collector, "silent_pad", 1.0) < 1
    assert at(collector, "dead_air", 1.0) == pytest.approx(700, abs=SLOTS_MS)
    for metric in (
        "missed_response",
        "agent_interruption",
        "late_frames",
        "underruns",
        "clipped_audio",
        "word_error_rate",
    ):
        assert mean(collector, metric) == 0, metric
    assert mean(collector, "intent_accuracy") == 1
    assert mean(collector, "mos") == pytest.approx(4.499, abs=0.001)
    assert at(collector, "jitter", 1.0) < 0.5
    assert problems(collector) == set()


def test_the_servers_stages_are_told_apart():
    twin = {"greeting": False, "latency": {"stt": "150ms", "llm": "400ms", "tts": "200ms"}}
    collector = play(calls=call(*TURN), twin=twin)
    assert at(collector, "stt", 0.5) == pytest.approx(150, abs=SLOTS_MS)
    assert at(collector, "voice_response", 0.5) == pytest.approx(600, abs=SLOTS_MS)
    assert at(collector, "turn_latency", 0.5) == pytest.approx(750, abs=SLOTS_MS)


def test_talk_ratio_is_the_agents_share():
    collector = play(calls=call(*TURN), twin=agent())
    record = collector.worst_calls()[0]
    expected = record.agent_speech_s / (record.agent_speech_s + record.caller_speech_s)
    assert 0.2 < expected < 0.8
    assert (
        collector.histogram("talk_ratio").minimum / SCALE
        <= expected
        <= collector.histogram("talk_ratio").maximum / SCALE
    )


@pytest.mark.parametrize("delay_ms", [250, 500])
def test_barge_in_stop_is_the_agents_delay(delay_ms):
    barge_in = {"barge_in": {"utterance": "book_appointment", "after": "600ms"}}
    collector = play(
        calls=call({"say": "opening_hours"}, barge_in, "wait_for_agent"),
        twin=agent(barge_in_delay=f"{delay_ms}ms"),
        dialect={"name": "rtmed", "message_rate": 50},
    )
    assert collector.histogram("barge_in_stop").count == 100
    for fraction in (0.5, 0.95):
        assert at(collector, "barge_in_stop", fraction) == pytest.approx(delay_ms, abs=10)
    assert mean(collector, "yield_rate") == 1
    assert at(collector, "dropped_audio", 1.0) <= 20, "speech in real time leaves nothing to drop"
    assert mean(collector, "agent_interruption") == 0, "the caller interrupted, not the agent"


def test_an_interrupted_burst_is_dropped():
    barge_in = {"barge_in": {"utterance": "book_appointment", "after": "600ms"}}
    collector = play(
        calls=call({"say": "opening_hours"}, barge_in, "wait_for_agent"),
        twin=agent(barge_in_delay="250ms", delivery="burst"),
        dialect={"name": "rtmed", "message_rate": 50},
    )
    assert at(collector, "dropped_audio", 0.5) > 1000, "most of the reply was still to be played"
    assert at(collector, "barge_in_stop", 0.5) == pytest.approx(250, abs=15)


def test_an_agent_that_does_not_stop_has_not_yielded():
    barge_in = {"barge_in": {"utterance": "book_appointment", "after": "200ms"}}
    collector = play(
        calls=call({"say": "opening_hours"}, barge_in, "wait_for_agent"),
        twin=agent(faults={"ignore_barge_in_rate": 1}),
    )
    assert mean(collector, "yield_rate") == 0
    assert "the agent did not stop for the caller within 2 s" in problems(collector)


@pytest.mark.parametrize(
    ("sound", "tolerance", "rate"), [("backchannel", "700ms", 0), ("backchannel", "100ms", 1), ("noise", "900ms", 0)]
)
def test_a_backchannel_must_not_stop_the_agent(sound, tolerance, rate):
    murmur = {"backchannel": {"utterance": sound, "after": "500ms"}}
    collector = play(
        calls=call({"say": "billing_question"}, murmur, "wait_for_agent"),
        twin=agent(backchannel_tolerance=tolerance, barge_in_delay=tolerance),
        dialect={"name": "rtmed", "message_rate": 50},
    )
    assert collector.histogram("false_barge_in").count >= 90, "all but those that the end of the call cut off"
    assert mean(collector, "false_barge_in") == rate
    assert mean(collector, "missed_response") == 0
    assert collector.histogram("turn_latency").count == 100, "a murmur is no turn"


def test_an_agent_that_cuts_in_is_noticed():
    collector = play(
        calls=call(*TURN), twin=agent(faults={"agent_interruption_rate": 1, "agent_interruption_after": "1s"})
    )
    assert mean(collector, "agent_interruption") == 1
    assert any("before the caller had finished" in problem for problem in problems(collector))


def test_missed_responses_and_dead_air():
    collector = play(calls=call(*TURN), twin=agent(faults={"silent_rate": 1}), timeouts={"agent_reply": "4s"})
    assert mean(collector, "missed_response") == 1
    assert at(collector, "dead_air", 0.5) == pytest.approx(4000, abs=5)
    assert problems(collector) == {"no reply within 4.0 s"}


@pytest.mark.parametrize("gap_ms", [100, 240, 320])
def test_underruns_are_counted_with_their_silence(gap_ms):
    collector = play(calls=call(*TURN), twin=agent(faults={"underruns": {"rate": 1, "gap": f"{gap_ms}ms"}}))
    assert mean(collector, "underruns") == 1
    assert collector.histogram("underruns").maximum == SCALE
    assert {round(record.underrun_ms) for record in collector.worst_calls()} == {gap_ms}
    assert collector.histogram("turn_latency").count == 100, "a gap is no new reply"


def test_a_gap_that_the_buffer_hides_is_none():
    collector = play(calls=call(*TURN), twin=agent(faults={"underruns": {"rate": 1, "gap": "50ms"}}))
    assert mean(collector, "underruns") == 0


def test_late_frames_lower_the_mos():
    collector = play(calls=call(*TURN), twin=agent(faults={"late_frames": {"rate": 0.03, "by": "150ms"}}))
    assert mean(collector, "late_frames") > 0
    assert mean(collector, "mos") < 4.4
    assert at(collector, "jitter", 0.5) > 1


def test_bursts_are_heard_at_their_own_pace():
    collector = play(calls=call(*TURN), twin=agent(delivery="burst"))
    assert at(collector, "turn_latency", 0.99) == pytest.approx(700, abs=SLOTS_MS)
    assert mean(collector, "late_frames") == 0
    assert mean(collector, "underruns") == 0
    assert min(record.duration_s for record in collector.worst_calls()) > 5, "the caller hears the reply to its end"


def test_empty_replies_are_missed_responses():
    collector = play(calls=call(*TURN), twin=agent(faults={"empty_audio_rate": 1}), timeouts={"agent_reply": "3s"})
    assert collector.outcomes == {"agent_silent": 100}
    assert mean(collector, "missed_response") == 1


def test_clipped_audio_is_counted():
    collector = play(calls=call(*TURN), twin=agent(faults={"clipped_rate": 1}))
    assert mean(collector, "clipped_audio") > 0.2


def test_truncated_replies_end_the_turn():
    whole = play(calls=call(*TURN), twin=agent())
    cut = play(calls=call(*TURN), twin=agent(faults={"truncated_rate": 1}))
    assert cut.outcomes == {"completed": 100}
    assert mean(cut, "talk_ratio") < mean(whole, "talk_ratio")


def test_audio_at_the_wrong_rate_is_no_crash():
    collector = play(calls=call(*TURN), twin=agent(faults={"wrong_rate": 1}))
    assert collector.outcomes == {"completed": 100}


def test_intents_and_words_are_judged():
    collector = play(calls=call(*TURN), twin=agent(faults={"intent_error_rate": 0.2, "word_error_rate": 0.1}))
    assert mean(collector, "intent_accuracy") == pytest.approx(0.8, abs=0.13)
    assert mean(collector, "word_error_rate") == pytest.approx(0.1, abs=0.035)


def test_an_impatient_caller_hangs_up():
    collector = play(
        calls=call(*TURN), twin=agent(latency={"turn": "4s"}), personas=[{"name": "hasty", "patience": "2s"}]
    )
    assert collector.outcomes == {"agent_silent": 100}
    assert problems(collector) == {"no reply within 2.0 s"}


def test_personas_are_labels_and_share_the_calls():
    collector = play(
        calls=call(*TURN),
        twin=agent(),
        personas=[{"use": "calm", "weight": 3}, {"use": "elderly", "weight": 1}],
        region="westeurope",
    )
    counts = {}
    for series in collector.series():
        if series.metric == "call_success":
            counts[series.labels["persona"]] = series.histogram.count
            assert series.labels["region"] == "westeurope"
    assert counts["calm"] + counts["elderly"] == 100
    assert 60 <= counts["calm"] <= 90


def test_interrupting_and_murmuring_personas():
    rude = {"name": "rude", "interrupts": 1, "interrupt_after": "500ms"}
    collector = play(
        calls=call(*TURN, *TURN),
        twin=agent(backchannel_tolerance="700ms", barge_in_delay="700ms"),
        personas=[rude, {"name": "murmuring", "backchannel": 1}],
    )
    assert set(collector.outcomes) == {"completed"}
    assert collector.histogram("barge_in_stop").count > 50
    assert collector.histogram("false_barge_in").count > 50
    assert mean(collector, "false_barge_in") == 0


@pytest.mark.parametrize("loss", [0.05, {"burst": {"p": 0.01, "r": 0.25}}])
def test_a_lossy_line_loses_what_it_should(loss):
    collector = play(calls=call(*TURN), twin=agent(), personas=[{"name": "lossy", "line": {"loss": loss}}])
    totals = collector.totals()
    expected = loss if isinstance(loss, float) else 0.01 / 0.26
    assert totals.frames_lost / (totals.frames_lost + totals.frames_sent) == pytest.approx(expected, rel=0.25)


def test_jitter_of_the_line_is_no_lateness_of_the_generator():
    collector = play(calls=call(*TURN), twin=agent(), personas=[{"name": "jittery", "line": {"jitter": "0ms..80ms"}}])
    assert at(collector, "frame_lateness", 1.0) <= 2
    assert at(collector, "turn_latency", 0.5) == pytest.approx(700, abs=90)


def test_what_a_call_costs():
    collector = play(calls=call(*TURN), twin=agent(), cost={"stt": "stream", "prices": {"stt": 36.0}})
    seconds = sum(record.duration_s for record in collector.worst_calls()) / len(collector.worst_calls())
    assert mean(collector, "call_cost") == pytest.approx(seconds * 0.01, rel=0.1)
    assert sum(collector.costs.values()) == pytest.approx(mean(collector, "call_cost") * 100, rel=0.001)


def test_the_moments_of_a_call_are_noted():
    barge_in = {"barge_in": {"utterance": "book_appointment", "after": "1s"}}
    collector = play(
        calls=call("wait_for_agent", {"say": "opening_hours"}, barge_in, "wait_for_agent", {"dtmf": "1"}),
        twin={"latency": {"turn": "700ms"}, "faults": {"underruns": {"rate": 1, "gap": "200ms"}}},
    )
    record = collector.worst_calls()[0]
    kinds = [moment.kind for moment in sorted(record.moments, key=lambda moment: moment.at_s)]
    assert kinds[0] == "greeting"
    assert {"barge_in", "interrupted", "underrun", "dtmf"} <= set(kinds)
    (greeting,) = [moment for moment in record.moments if moment.kind == "greeting"]
    assert 1 < greeting.duration_s < 6
    assert any(problem == "speech broke off for 200 ms" for problem in problems(collector))


def test_a_recording_of_ones_own_is_judged_by_the_labels_beside_it():
    said = load_corpus().find("opening_hours")[0]
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, said.sample_rate_hz, 0, "NONE", ""))
        file.writeframes(said.samples.astype("<i2").tobytes())

    def judged(**labels):
        calls = call({"say": {"utterance": "own.wav", **labels}}, "wait_for_agent")
        load = {"shape": "constant", "arrival_rate": 1, "duration": "2s"}
        plan = Plan("sim", scenario(calls=calls, load=load, twin=agent()), "http://agent.example")
        return VirtualWorld(replace(plan, media={"own.wav": data.getvalue()})).run()

    known = judged(text=said.text, intent=said.intent)
    assert (mean(known, "intent_accuracy"), mean(known, "word_error_rate")) == (1, 0)
    assert {turn.turn for record in known.worst_calls() for turn in record.turns} == {said.intent}
    assert mean(judged(intent="billing_question"), "intent_accuracy") == 0
    assert mean(judged(text=f"{said.text} please"), "word_error_rate") > 0
    unlabelled = judged()
    assert not unlabelled.histogram("intent_accuracy").count
    assert not unlabelled.histogram("word_error_rate").count
