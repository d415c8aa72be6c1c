"""What the caller hears of an agent that speaks at odd moments, told to the ms; on the virtual clock."""

import base64
import json

import numpy as np
import pytest

from voxload.dialects.base import HttpResponse
from voxload.measure.collector import Collector
from voxload.measure.evidence import call_shares
from voxload.model.metric import SCALE
from voxload.model.plan import Plan
from voxload.testing.virtual import VirtualLine, VirtualWorld

MS = 1_000_000
RATE_HZ = 16_000
TICK_MS = 2
"""Of the wheel, each way."""
TURN = ({"say": "opening_hours"}, "wait_for_agent")


def audio(*parts):
    """Return PCM of (ms, loud) parts."""
    rng = np.random.default_rng(1)
    made = [rng.uniform(-1, 1, RATE_HZ * ms // 1000) * (8_000 if loud else 0) for ms, loud in parts]
    return np.concatenate(made).astype("<i2").tobytes()


class Script:
    """An agent that does what it is told, by the caller's turns: `tell(turn number, turn)` → (at_ns, message) pairs."""

    def __init__(self, tell):
        self.tell = tell
        self.line = None

    def speech(self, at_ns, *parts, burst=False):
        """Yield the messages of (ms, loud) parts, 20 ms each, in real time from `at_ns` on or all at once."""
        pcm, step = audio(*parts), RATE_HZ // 50 * 2
        for number, start in enumerate(range(0, len(pcm), step)):
            data = base64.b64encode(pcm[start : start + step]).decode()
            yield at_ns + (0 if burst else number * 20 * MS), {"type": "audio", "data": data}


class ScriptedLine(VirtualLine):
    """A line whose other end is a script."""

    turns = 0

    def dial(self, dial):
        self._later(lambda: self._call.on_connected(self._world.clock()))

    def send(self, payload, text):
        listener = self._call._listener
        while listener is not None and len(listener.turns) > self.turns:
            for at_ns, message in self._world.script.tell(self.turns, listener.turns[self.turns]):
                self._at(at_ns, message)
            self.turns += 1
        return True

    def _at(self, at_ns, message):
        def tell(_due_ns):
            if message == "close":
                self._agent_closes(1000)
            elif not self._closed:
                self._call.on_message(json.dumps(message).encode(), True, self._world.clock())
            return 0

        self._world.wheel.at(max(at_ns, self._world.clock()), tell)


class ScriptedWorld(VirtualWorld):
    """A world with such a line."""

    def answer(self, request):
        return HttpResponse(200)

    def _connect(self, call):
        return ScriptedLine(call, self)


def talk(tell, *script, calls=1, **changes) -> Collector:
    scenario = {
        "name": "talk",
        "target": "http://agent.example",
        "seed": 3,
        "dialect": {"name": "browser"},
        "load": {"shape": "constant", "arrival_rate": 1, "duration": f"{calls}s"},
        "calls": [{"name": "c", "script": list(script or TURN)}],
    } | changes
    world = ScriptedWorld(Plan("talk", scenario, "http://agent.example"))
    world.script = Script(tell)
    return world.run(600)


def one(collector, metric):
    histogram = collector.histogram(metric)
    assert histogram.count == 1, f"{metric}: {histogram.count}"
    return histogram.minimum / SCALE


def record(collector):
    (call,) = collector.worst_calls()
    return call


SPEECH = Script(None).speech


def test_a_reply_is_measured_to_its_onset():
    found = talk(lambda _, turn: SPEECH(turn.speech_end_ns + 400 * MS, (300, False), (600, True)))
    assert one(found, "turn_latency") * 1e3 == pytest.approx(700, abs=TICK_MS)
    assert record(found).outcome == "completed"


@pytest.mark.parametrize("early_ms", [20, 40, 60, 90, 130, 400])
@pytest.mark.parametrize("burst", [False, True])
def test_a_reply_that_begins_before_the_caller_ends_is_the_reply(early_ms, burst):
    found = talk(lambda _, turn: SPEECH(turn.speech_end_ns - early_ms * MS, (900, True), burst=burst))
    call = record(found)
    assert call.outcome == "completed", call.error
    assert call.turns[0].latency_ms == pytest.approx(-early_ms, abs=TICK_MS)
    assert one(found, "turn_latency") == one(found, "first_packet") == 0
    assert one(found, "missed_response") == 0
    if abs(early_ms - 100) > 25:
        assert one(found, "agent_interruption") == (early_ms >= 100)


@pytest.mark.parametrize("ends_before_ms", [40, 150, 240])
def test_a_murmur_of_the_agent_at_the_end_of_a_turn_is_not_the_reply(ends_before_ms):
    def tell(_, turn):
        yield from SPEECH(turn.speech_end_ns - (ends_before_ms + 200) * MS, (200, True))
        yield from SPEECH(turn.speech_end_ns + 900 * MS, (700, True))

    found = talk(tell)
    assert one(found, "turn_latency") * 1e3 == pytest.approx(900, abs=TICK_MS)
    assert one(found, "agent_interruption") == 1
    assert record(found).turns[0].reply_end_s - record(found).turns[0].speech_end_s == pytest.approx(1.6, abs=0.02)


@pytest.mark.parametrize(("listen_s", "missed"), [(4, True), (2, False)])
def test_a_reply_that_nobody_waits_for_is_missed_all_the_same(listen_s, missed):
    script = [{"say": "opening_hours"}, {"listen": f"{listen_s}s"}, {"say": "opening_hours"}, "wait_for_agent"]

    def tell(number, turn):
        return SPEECH(turn.speech_end_ns + 500 * MS, (400, True)) if number else ()

    found = talk(tell, *script, timeouts={"agent_reply": "3s"})
    histogram = found.histogram("missed_response")
    assert (histogram.count, histogram.total / SCALE) == ((2, 1) if missed else (1, 0))
    assert found.histogram("dead_air").maximum / 1e9 == pytest.approx(4 if missed else 0.5, abs=0.1)
    assert call_shares(record(found))["missed_response"] == (int(missed), 1 + missed)


def test_an_early_reply_of_two_parts_goes_on():
    def tell(_, turn):
        yield from SPEECH(turn.speech_end_ns - 500 * MS, (300, True), (350, False), (600, True))

    found = talk(tell)
    assert one(found, "turn_latency") * 1e3 == pytest.approx(150, abs=TICK_MS), "the second part comes after the turn"


def test_a_line_that_holds_frames_back_hides_no_reply():
    persona = {"name": "far", "line": {"jitter": {"mean": "400ms", "std": "1ms"}}}
    found = talk(lambda _, turn: SPEECH(turn.speech_end_ns + 100 * MS, (900, True)), personas=[persona])
    assert record(found).outcome == "completed"
    assert one(found, "turn_latency") * 1e3 == pytest.approx(100, abs=TICK_MS)


def test_speech_of_a_long_call_counts_to_the_last_word():
    script = [{"repeat": {"times": 70, "steps": [{"say": "opening_hours"}, "wait_for_agent"]}}]
    found = talk(lambda _, turn: SPEECH(turn.speech_end_ns + 300 * MS, (500, True)), *script)
    call = record(found)
    assert len(call.turns) == 70
    assert call.agent_speech_s == pytest.approx(70 * 0.5, rel=0.02)
    both_s = call.agent_speech_s + call.caller_speech_s
    assert one(found, "talk_ratio") == pytest.approx(call.agent_speech_s / both_s, abs=1e-6)


def test_speech_that_is_not_played_when_the_call_ends_is_not_heard():
    script = [{"say": "opening_hours"}, {"listen": "1s"}, "hang_up"]
    found = talk(lambda _, turn: SPEECH(turn.speech_end_ns + 200 * MS, (5_000, True), burst=True), *script)
    call = record(found)
    assert call.agent_speech_s == pytest.approx(0.8, abs=0.03)
    assert call.turns[0].reply_end_s <= call.setup_ms / 1e3 + call.duration_s + 1e-6


def test_what_the_caller_said_before_the_call_broke_off_counts():
    found = talk(lambda _, turn: [(turn.speech_start_ns + 500 * MS, "close")])
    call = record(found)
    assert call.outcome == "dropped_by_target"
    assert call.caller_speech_s == pytest.approx(0.5, abs=0.03)
    assert one(found, "talk_ratio") == 0


def test_a_transcript_after_the_onset_is_a_value_of_stt_too():
    def tell(_, turn):
        yield from SPEECH(turn.speech_end_ns + 300 * MS, (900, True))
        yield turn.speech_end_ns + 450 * MS, {"type": "transcript", "text": "when are you open"}

    found = talk(tell)
    assert one(found, "stt") * 1e3 == pytest.approx(450, abs=TICK_MS)
    assert record(found).turns[0].stages_ms["stt"] == pytest.approx(450, abs=TICK_MS)
    assert found.histogram("voice_response").count == 0


def test_a_transcript_that_comes_in_the_next_turn_is_of_the_turn_before():
    def tell(number, turn):
        yield from SPEECH(turn.speech_end_ns + 300 * MS, (500, True))
        if number == 0:
            yield turn.speech_end_ns + 1_500 * MS, {"type": "transcript", "text": "when are you open"}

    found = talk(tell, *TURN, *TURN)
    first, second = record(found).turns
    assert second.speech_start_s < first.speech_end_s + 1.5 < second.speech_end_s
    assert (first.heard, second.heard) == ("when are you open", "")
    assert one(found, "stt") * 1e3 == pytest.approx(1_500, abs=TICK_MS)


def test_a_recogniser_that_is_done_before_the_last_sample_takes_no_time():
    def tell(_, turn):
        yield turn.speech_end_ns - 30 * MS, {"type": "transcript", "text": "when are you open"}
        yield from SPEECH(turn.speech_end_ns + 300 * MS, (500, True))

    found = talk(tell)
    assert one(found, "stt") == record(found).turns[0].stages_ms["stt"] == 0
    assert one(found, "voice_response") * 1e3 == pytest.approx(330, abs=TICK_MS)


@pytest.mark.parametrize(("text_before_ms", "stages"), [(0, {}), (3, {}), (120, {"llm": 130, "tts": 120})])
def test_text_that_comes_with_its_audio_does_not_part_the_stages(text_before_ms, stages):
    def tell(_, turn):
        yield turn.speech_end_ns + 50 * MS, {"type": "transcript", "text": "when are you open"}
        yield turn.speech_end_ns + (300 - text_before_ms) * MS, {"type": "response", "text": "at nine"}
        yield from SPEECH(turn.speech_end_ns + 300 * MS, (500, True))

    found = talk(tell)
    told = record(found).turns[0].stages_ms
    assert told == pytest.approx({"stt": 50, "voice_response": 250} | stages, abs=TICK_MS)
    assert {metric for metric in ("llm", "tts") if found.histogram(metric).count} == set(stages)


@pytest.mark.parametrize("burst", [False, True])
def test_an_interrupted_reply_ends_where_it_was_cut(burst):
    def tell(number, turn):
        if number == 0:
            length_ms = 4_000 if burst else 1_000
            yield from SPEECH(turn.speech_end_ns + 300 * MS, (length_ms, True), burst=burst)
        elif number == 1:
            yield turn.speech_start_ns + 250 * MS, {"type": "interrupt"}
            yield from SPEECH(turn.speech_end_ns + 300 * MS, (500, True))

    barge_in = {"barge_in": {"utterance": "opening_hours", "after": "600ms"}}
    found = talk(tell, {"say": "opening_hours"}, barge_in, "wait_for_agent", {"listen": "3s"})
    first, second = record(found).turns
    stopped_s = first.reply_end_s - second.speech_start_s
    if burst:
        assert stopped_s == pytest.approx(0.25, abs=0.005)
    assert stopped_s == pytest.approx(one(found, "barge_in_stop"), abs=0.001)


def test_the_greetings_words_are_paid_for():
    def tell(_, turn):
        yield turn.speech_start_ns + 100 * MS, {"type": "response", "text": "x" * 1_000}
        yield turn.speech_end_ns + 100 * MS, {"type": "response", "text": "y" * 500}
        yield from SPEECH(turn.speech_end_ns + 300 * MS, (500, True))

    found = talk(tell, cost={"telephony": "none", "voip_legs": 0, "stt": "none", "tts": "neural", "llm": ""})
    assert found.costs["tts"] == pytest.approx(1_500 * 15e-6)
    assert record(found).turns[0].reply == "y" * 500
