"""The worst calls: what is drawn stands where it happened, what was bad is said, and what was recorded can be heard."""

from __future__ import annotations

import base64
import io
import itertools
import re
import shutil
import subprocess
import wave
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxload.audio.codec import encode_audio
from voxload.measure.summary import CallMoment, CallRecord, Summary, TurnRecord
from voxload.report import sound
from voxload.report.calls import call_in_words, problems_of
from voxload.report.files import write_reports
from voxload.report.html import render_html
from voxload.report.lanes import MOMENTS_MAX, call_cards, differences
from voxload.report.waterfall import waterfall

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CALL = CallRecord(
    7, "call-7", "order", "hold", 3.0, "completed", 19.0, 1000.0,
    [
        TurnRecord("ask", 4.0, 1000.0, 900.0, 2.0, 5.0, 8.0, said="one two", heard="one too", reply="Yes."),
        TurnRecord("more", 12.0, None, None, 10.0, problems=["no reply within 2 s"]),
        TurnRecord("end", 15.0, 6000.0),
    ],
    moments=[CallMoment(6.0, "underrun", "", 0.5), CallMoment(1.0, "greeting", "", 0.5), CallMoment(12.0, "dtmf", "4")],
)  # fmt: skip


def wav(seconds: float, rate_hz: int = 16_000, channels: int = 2, hz: float = 440) -> bytes:
    mono = (12_000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.column_stack([mono] * channels).tobytes())
    return buffer.getvalue()


def test_speech_waits_and_gaps_stand_at_their_times() -> None:
    (card,) = call_cards([CALL], {})
    # The last thing known is the reply to the third turn, at 15 + 6 s.
    assert card.axis_s == 21.0

    def place(span: tuple[float, ...]) -> tuple[float, float]:
        return round(span[0] * 0.21, 1), round((span[0] + span[1]) * 0.21, 1)

    assert [place(span[:2]) for span in card.caller[:2]] == [(2.0, 4.0), (10.0, 12.0)]
    assert card.caller[2].tone == "bad begun"
    greeting, first, last = card.agent
    assert (place(greeting[:2]), greeting.label) == ((1.0, 1.5), "greeting")
    assert place(first[:2]) == (5.0, 8.0)
    assert last.tone == "open"
    assert [(span.label, *place(span[:2])) for span in card.waits] == [
        ("1.00 s", 4.0, 5.0),
        ("no reply", 12.0, 15.0),
        ("6.00 s", 15.0, 21.0),
    ]
    assert [place(span[:2]) for span in card.gaps] == [(6.0, 6.5)]
    assert [place(span[:2]) for span in card.bands] == [(10.0, 15.0), (15.0, 21.0)]
    assert [(pin.number, pin.at, pin.tone) for pin in card.pins] == [
        (1, "1.00 s", "info"), (2, "6.00 s", "bad"), (3, "12.00 s", "info"),
    ]  # fmt: skip


def test_bad_turns_are_said_in_words() -> None:
    assert [problems_of(CALL, number) for number in range(3)] == [
        (),
        ("no reply within 2 s",),
        ("the reply came after 6.00 s",),
    ]
    assert call_in_words(CALL) == "more at 12.0 s: no reply within 2 s; end at 15.0 s: the reply came after 6.00 s"
    wrong = TurnRecord("x", 1.0, 500.0, intent="buy", intent_heard="sell", intent_correct=False)
    silent = TurnRecord("y", 3.0)
    call = msgspec.structs.replace(CALL, turns=[silent, wrong, silent], outcome="agent_silent", error="no reply")
    assert problems_of(call, 0) == ()  # a backchannel, say: the call went on
    assert problems_of(call, 1) == ("understood as sell, not buy",)
    assert problems_of(call, 2) == ("no reply came",)
    assert call_in_words(call).startswith("no reply; x at 1.0 s: understood")


def test_an_agent_that_spoke_too_early_waited_less_than_nothing() -> None:
    early = TurnRecord("x", 4.0, -250.0, None, 2.0, 3.75, 5.0)
    (card,) = call_cards([msgspec.structs.replace(CALL, turns=[early])], {})
    assert (card.waits[0].label, card.waits[0].width) == ("250 ms early", 0.0)


times = st.floats(0, 300, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            TurnRecord,
            turn=st.text(max_size=5),
            speech_end_s=times,
            latency_ms=st.none() | st.floats(-500, 20_000),
            speech_start_s=st.none() | times,
            reply_start_s=st.none() | times,
            reply_end_s=st.none() | times,
        ),
        max_size=8,
    ),
    st.lists(st.builds(CallMoment, at_s=times, kind=st.just("underrun"), duration_s=st.floats(0, 5)), max_size=60),
    times,
)
def test_nothing_is_drawn_outside_the_axis(
    turns: list[TurnRecord], moments: list[CallMoment], duration_s: float
) -> None:
    call = msgspec.structs.replace(CALL, turns=turns, moments=moments, duration_s=duration_s)
    (card,) = call_cards([call], {})
    for span in (*card.caller, *card.agent, *card.waits, *card.gaps, *card.bands):
        assert 0 <= span.left <= 100
        assert span.width >= 0
        assert span.left + span.width <= 100.02
    assert len(card.ticks) <= 13
    assert len(card.pins) + card.more_pins == len(moments)
    assert len(card.pins) <= MOMENTS_MAX
    for level in range(card.pin_levels):
        lefts = [pin.left for pin in card.pins if pin.level == level]
        assert all(later - earlier >= 3.19 for earlier, later in itertools.pairwise(lefts))


def test_words_that_differ_are_marked() -> None:
    said, heard = differences("Where is my order, please?", "where is the Order please now")
    assert said == (("Where is", False), ("my", True), ("order, please?", False))
    assert heard == (("where is", False), ("the", True), ("Order please", False), ("now", True))
    assert differences("a b", "") == ((("a b", False),), ())


def test_the_small_form_is_g711_and_what_it_was_made_from() -> None:
    samples = np.arange(-32_768, 32_768).astype(np.int16)
    assert sound.mulaw(samples).tobytes() == encode_audio(samples, "mulaw")
    audio = sound.read_wav(wav(1.0))
    assert audio is not None
    small = sound.compact_wav(*audio)
    assert len(small) < 16_100
    assert small[:4] == b"RIFF"
    assert int.from_bytes(small[4:8], "little") == len(small) - 8


def test_an_envelope_is_the_peak_of_each_part() -> None:
    samples = np.array([0, 3, -9, 2, 1, -1, 5, -32_768], np.int16)
    assert sound.envelope(samples, 4) == [3, 9, 1, 32_768]
    assert sound.envelope(samples, 100) == [0, 3, 9, 2, 1, 1, 5, 32_768]
    assert sound.envelope(samples[:0], 4) == []
    assert [sound.display_height(peak) for peak in (0, 1, 32_768)] == [0, 0, 100]


def test_the_page_carries_the_worst_recordings_and_links_the_others() -> None:
    found = sound.sounds(["a.wav", "b.wav", "gone.wav", "bad.wav", ""], {
        "a.wav": wav(100), "b.wav": wav(100), "bad.wav": b"RIFF"})  # fmt: skip
    assert set(found) == {"a.wav", "b.wav"}
    assert found["a.wav"].data_uri and not found["a.wav"].file
    assert not found["b.wav"].data_uri and found["b.wav"].file == "b.wav"
    assert len(found["a.wav"].data_uri) <= sound.EMBEDDED_MAX_BYTES
    assert found["a.wav"].duration_s == pytest.approx(100)
    assert [len(channel) for channel in found["b.wav"].channels] == [sound.ENVELOPE_POINTS] * 2
    assert sound.sounds(["a.wav", "//e.vil/x"], None) == {"a.wav": sound.Sound("", "a.wav", 0.0, ())}


def test_every_bad_turn_of_a_worst_call_is_on_the_page(
    summary: Summary, recordings: dict[str, bytes], tmp_path: Path
) -> None:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    paths = write_reports(summary, write, recordings)
    page = paths["report.html"].read_text()
    problems = [problem for call in summary.worst_calls for turn in call.turns for problem in turn.problems]
    assert len(problems) > 3
    assert page.count('<ul class="problems">') == sum(bool(t.problems) for c in summary.worst_calls for t in c.turns)
    assert all(problem in page for problem in problems)
    assert page.count("<audio") == len(recordings) > 1
    assert page.count('<svg class="wave') == 2 * len(recordings)
    assert len(page) < sound.EMBEDDED_MAX_BYTES + 500_000
    linked = render_html(summary)
    assert linked.count('href="recordings/') == len(recordings)
    assert "<audio" not in linked


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to play the recording in")
def test_a_browser_plays_the_small_form(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    audio = sound.read_wav(wav(2.0))
    assert audio is not None
    uri = "data:audio/wav;base64," + base64.b64encode(sound.compact_wav(*audio)).decode()
    page = tmp_path / "page.html"
    page.write_text(
        f"<title>none</title><audio src='{uri}' onloadeddata='document.title=this.duration'"
        " onerror='document.title=this.error.message'></audio>"
    )
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-dev-shm-usage --virtual-time-budget=5000"
    command = [CHROMIUM, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None
    assert float(title[1]) == pytest.approx(2.0, abs=0.01)


def test_a_turns_waterfall_runs_from_step_to_step() -> None:
    turn = TurnRecord(
        "ask", 4.0, 1000.0, 900.0, stages_ms={"stt": 200.0, "llm": 500.0, "tts": 200.0}, stages_at_ms={"<b>": 450.0}
    )
    steps = waterfall(turn)
    assert [(step.name, step.left, step.width, step.at) for step in steps] == [
        ("final transcript", 0, 20, "200 ms"), ("<b>", 20, 25, "450 ms"), ("text of the reply", 45, 25, "700 ms"),
        ("first packet", 70, 20, "900 ms"), ("heard by the caller", 90, 10, "1.00 s"),
    ]  # fmt: skip
    assert waterfall(TurnRecord("ask", 4.0, 1000.0, 900.0)) == ()
    (card,) = call_cards([msgspec.structs.replace(CALL, turns=[turn])], {})
    assert card.turns[0].steps == steps


def test_the_trace_of_a_call_stands_beside_it(summary: Summary) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    worst = [msgspec.structs.replace(call, trace_id=trace_id) for call in summary.worst_calls[:1]]
    assert trace_id in render_html(msgspec.structs.replace(summary, worst_calls=worst))
    assert trace_id not in render_html(summary)
