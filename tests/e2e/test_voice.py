"""The voice features as a user meets them: recordings, signal scores, calibration, an agent on real sound."""

import json
import wave
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import scenario_with

from voxload.measure.summary import Summary
from voxload.runners.results import read_calls

VOICE = scenario_with(
    load={"shape": "constant", "arrival_rate": 10, "duration": "1s"},
    twin={
        "latency": {"turn": "600ms"},
        "faults": {"underruns": {"rate": 0.5, "gap": "200ms"}},
        "reply_seconds_max": 1.5,
    },
)


def channels(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 16_000, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    return samples[:, 0].astype(float), samples[:, 1].astype(float)


def test_recordings_hold_both_sides_at_their_time(voxload):
    done = voxload.run(VOICE, "--record", "100%", judged=False)
    files = sorted((done.folder / "recordings").glob("*.wav"))
    assert len(files) == 10
    calls = {call.recording: call for call in read_calls(done.folder)}
    for file in files:
        call = calls[f"recordings/{file.name}"]
        caller, agent = channels(file)
        turn = call.turns[0]
        assert turn.reply_start_s is not None and turn.reply_end_s is not None
        inside = slice(int(turn.reply_start_s * 16_000), int(turn.reply_end_s * 16_000))
        between = slice(int(turn.speech_end_s * 16_000) + 400, int(turn.reply_start_s * 16_000) - 400)
        assert np.sqrt(np.mean(agent[inside] ** 2)) > 300, "the agent speaks where its reply is"
        assert np.sqrt(np.mean(agent[between] ** 2)) < 30, "and is silent before"
        said = slice(int(turn.speech_start_s * 16_000), int(turn.speech_end_s * 16_000))
        assert np.sqrt(np.mean(caller[said] ** 2)) > 300
        assert (file.with_suffix(".txt")).read_text()
    page = (done.folder / "report.html").read_text()
    assert "data:audio/" in page


def test_the_worst_calls_are_recorded(voxload):
    latency = {"turn": {"lognormal": {"median": "500ms", "p95": "1500ms"}}}
    scenario = {**VOICE, "twin": {"latency": latency, "reply_seconds_max": 0.6}}
    done = voxload.run(scenario, "--record", "worst:2", judged=False)
    files = {f"recordings/{path.name}" for path in (done.folder / "recordings").glob("*.wav")}
    assert len(files) == 2
    slowest = sorted(done.summary.worst_calls, key=lambda call: -max(turn.latency_ms for turn in call.turns))[:2]
    assert {call.recording for call in slowest} == files


@pytest.mark.parametrize("text", ["many", "200%", "worst:", "worst:99999"])
def test_a_bad_policy_is_a_clear_error(voxload, text):
    done = voxload.run(VOICE, "--record", text)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.folder is None


def test_signal_scores_of_recordings(voxload):
    pytest.importorskip("speechmos")
    scenario = {**VOICE, "record": "2", "quality": {"share": 1, "worst": 0}, "gates": ["mean(dnsmos_loss) < 2"]}
    done = voxload.run(scenario, timeout_s=110, judged=False)
    assert done.code == 0 or done.fell_behind, (done.err, done.summary.verdict)
    assert [gate.status for gate in done.summary.gates] == ["pass"]
    assert done.summary.histogram("dnsmos").count == 2
    assert 2 < done.summary.histogram("dnsmos").mean / 1e9 < 4.5
    assert not list(done.folder.glob(".reference*"))
    assert not list(done.folder.glob("recordings/*.sent.wav"))
    if find_spec("visqol") is not None:
        assert done.summary.histogram("visqol").count == 2


def test_calibration_of_the_meter(voxload):
    """One point of each kind; the grid of the documentation is longer."""
    done = voxload("calibrate", "--short", "--calls", "20", "--json", timeout_s=110)
    rows = json.loads(done.out)
    assert done.code == 0, [row for row in rows if not row["kept"]]
    assert {row["quantity"] for row in rows} >= {
        "p50(turn_latency)", "p95(turn_latency)", "p50(first_packet)", "p50(barge_in_stop)", "p95(barge_in_stop)",
        "mean(underruns)", "intent_accuracy", "word_error_rate", "caller's frames lost",
    }  # fmt: skip
    assert all(abs(row["measured"] - row["stated"]) <= 10 for row in rows if row["unit"] == "ms")


def test_an_agent_that_really_listens(voxload):
    """A handful of calls on real sound: voice activity, a recogniser, an intent; no `end_speech` is believed."""
    pytest.importorskip("pocketsphinx")
    intents = ["book_appointment", "opening_hours", "test_results"]
    scenario = scenario_with(
        load={"shape": "constant", "arrival_rate": 2, "duration": "3s"},
        calls=[{"name": name, "script": ["wait_for_agent", {"say": name}, "wait_for_agent"]} for name in intents],
        twin={"mode": "real", "reply_seconds_max": 1.5},
        timeouts={"agent_reply": "8s"},
        gates=["p95(turn_latency) < 3s"],
    )
    summary: Summary = voxload.run(scenario, timeout_s=100, judged=False).summary
    assert summary.totals.outcomes == {"completed": 6}
    accuracy = summary.histogram("intent_accuracy")
    assert accuracy.count == 6
    assert accuracy.total / 1e9 >= 5
    words = summary.histogram("word_error_rate")
    assert words.total / 1e9 / words.count < 0.3
    assert summary.histogram("turn_latency").minimum > 450e6, "it waits for 500 ms of silence"
