"""Signal scores from the real models on speech that was damaged on purpose."""

import ast
import sys
import wave
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from voxload.errors import BadInputError, RunAbortedError
from voxload.measure import quality
from voxload.measure.quality import choose_recordings, cut_pauses, score_in_process, score_recordings
from voxload.measure.summary import CallRecord

RATE = 16_000


def speech():
    """Two utterances of the embedded agent as float samples."""
    samples = []
    for name in ("greeting-awb-1.wav", "generic-awb-1.wav"):
        with wave.open(str(resources.files("voxload.audio") / "data" / name)) as file:
            samples.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return np.concatenate(samples) / 32_768


def write(path, *channels, rate=RATE):
    data = np.round(np.clip(np.stack(channels, axis=1), -1, 1) * 32_767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data.tobytes())
    return path


# --- which recordings ---


def call(index, mos=None, underrun_ms=0.0, recording="x.wav"):
    return CallRecord(
        index, str(index), "c", "p", 0.0, "completed", mos=mos, underrun_ms=underrun_ms, recording=recording
    )


def test_the_worst_calls_are_always_scored():
    calls = [call(n, mos=4.0 - n % 7 / 100) for n in range(200)]
    calls[50] = call(50, mos=1.5)
    calls[60] = call(60, mos=1.5, underrun_ms=900)
    assert [found.index for found in choose_recordings(calls, 0, 1, 1)] == [60]
    assert [found.index for found in choose_recordings(calls, 0, 2, 1)] == [50, 60]


def test_a_share_is_drawn_evenly_and_repeatably():
    calls = [call(n, mos=4.0, recording="x.wav" if n % 2 else "") for n in range(400)]
    chosen = choose_recordings(calls, 0.1, 0, seed=3)
    assert len(chosen) == 20
    assert all(found.recording for found in chosen)
    assert chosen == choose_recordings(calls, 0.1, 0, seed=3) != choose_recordings(calls, 0.1, 0, seed=4)
    assert 100 < np.mean([found.index for found in choose_recordings(calls, 0.3, 0, seed=3)]) < 300


def test_choosing_at_the_limits():
    calls = [call(n) for n in range(5)]
    assert choose_recordings(calls, 2.0, 10, 1) == calls
    assert choose_recordings(calls, 0, 0, 1) == []
    assert choose_recordings([], 1.0, 5, 1) == []
    assert len(choose_recordings(calls, 0.01, 0, 1)) == 1


# --- pauses ---


def test_long_pauses_are_cut():
    tone = 0.1 * np.sin(np.arange(RATE) / 5).astype(np.float32)
    silence = np.zeros(3 * RATE, np.float32)
    cut = cut_pauses(np.concatenate([silence, tone, silence, tone, silence]))
    assert len(cut) / RATE == pytest.approx(2 + 0.15 + 0.3 + 0.15, abs=0.03)
    assert np.sum(cut**2) == pytest.approx(2 * np.sum(tone**2), rel=1e-4)


def test_gaps_inside_speech_stay():
    tone = 0.1 * np.sin(np.arange(RATE) / 5).astype(np.float32)
    gap = np.zeros(RATE // 5, np.float32)
    audio = np.concatenate([tone, gap, tone])
    assert np.array_equal(cut_pauses(audio), audio)


def test_silence_leaves_nothing():
    assert len(cut_pauses(np.zeros(10 * RATE, np.float32))) == 0
    assert len(cut_pauses(np.zeros(0, np.float32))) == 0
    assert len(cut_pauses(np.ones(100, np.float32))) == 0


def test_long_recordings_are_bounded():
    assert len(cut_pauses(np.full(90 * RATE, 0.1, np.float32))) == 60 * RATE


# --- scores ---


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The scores of one child process, by file name."""
    for module in ("speechmos.dnsmos", "speechmos.plcmos", "visqol", "ai_edge_litert"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("quality")
    clean = speech()
    noise = np.random.default_rng(1).normal(size=len(clean))
    lossy = clean.copy()
    for frame in np.random.default_rng(2).integers(0, len(clean) // 320, len(clean) // 320 // 10):
        lossy[frame * 320 : frame * 320 + 320] = 0
    reference = write(folder / "reference.wav", clean)
    paths = [
        write(folder / "stereo.wav", 0.1 * noise, clean),
        write(folder / "paused.wav", np.concatenate([np.zeros(4 * RATE), clean, np.zeros(5 * RATE)])),
        write(folder / "lossy.wav", lossy),
        write(folder / "noisy.wav", clean + 0.01 * noise),
        write(folder / "silent.wav", np.zeros(RATE)),
        folder / "missing.wav",
    ]
    (folder / "text.wav").write_text("not audio")
    paths.append(folder / "text.wav")
    sent = [reference, None, reference, None, None, None, None]
    scores = score_in_process(paths, reference, folder, sent=sent, timeout_s=100)
    assert [Path(one.path) for one in scores] == paths
    assert not list(folder.glob("quality-*"))
    return {Path(one.path).name: one for one in scores}


def test_clean_audio_has_not_changed(scored):
    same = scored["stereo.wav"]  # the agent is the second channel
    assert same.problem == ""
    for change in (same.dnsmos_change, same.plcmos_change, same.visqol_change):
        assert change == pytest.approx(0, abs=0.02)
    assert 2 < same.dnsmos < 5
    assert 2 < same.plcmos < 5
    assert 4 < same.visqol <= 5
    assert same.cpu_s_per_audio_s > 0


def test_waiting_is_not_bad_quality(scored):
    paused = scored["paused.wav"]
    assert paused.speech_s == pytest.approx(scored["stereo.wav"].speech_s, abs=0.4)
    assert abs(paused.dnsmos_change) < 0.3
    assert abs(paused.plcmos_change) < 0.3


def test_lost_frames_are_heard(scored):
    lossy = scored["lossy.wav"]
    assert lossy.dnsmos_change < -0.2
    assert lossy.plcmos_change < -0.2
    assert lossy.visqol_change < -0.2


def test_noise_is_heard_and_visqol_needs_the_original(scored):
    noisy = scored["noisy.wav"]
    assert noisy.dnsmos_change < -0.2
    assert noisy.visqol is None
    assert noisy.visqol_change is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [("silent.wav", "0.0 s of speech"), ("missing.wav", "cannot be read"), ("text.wav", "cannot be read")],
)
def test_what_cannot_be_scored_says_why(scored, name, problem):
    assert problem in scored[name].problem
    assert scored[name].dnsmos is scored[name].plcmos is scored[name].dnsmos_change is None


def test_a_bad_reference_is_an_error_of_the_user(tmp_path):
    pytest.importorskip("speechmos.dnsmos")
    silent = write(tmp_path / "silent.wav", np.zeros(RATE))
    with pytest.raises(BadInputError, match=r"silent\.wav: reference audio: holds 0\.0 s of speech"):
        score_in_process([], silent, tmp_path, timeout_s=100)


def test_a_child_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(RunAbortedError, match="took longer than"):
        score_in_process([], None, tmp_path, timeout_s=0.01)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "extra"), [("speechmos.dnsmos", "quality"), ("visqol", "visqol")])
def test_a_missing_extra_is_named(monkeypatch, tmp_path, module, extra):
    pytest.importorskip("speechmos.dnsmos")
    pytest.importorskip("visqol")
    monkeypatch.setitem(sys.modules, module, None)
    path = write(tmp_path / "a.wav", np.zeros(RATE))
    with pytest.raises(BadInputError, match=rf"pip install 'voxload\[{extra}\]'"):
        score_recordings([path], None, sent=[path])


def test_originals_must_match():
    with pytest.raises(ValueError, match="2 originals for 1"):
        score_recordings([Path("a")], None, sent=[None, None])


def test_the_module_does_without_an_event_loop():
    tree = ast.parse(Path(quality.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not names & {"asyncio", "aiohttp"}
