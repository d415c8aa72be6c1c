"""Recordings on the disk: rendered beside the run, replaced, found again after a kill."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from voxload.audio.codec import encode_audio
from voxload.audio.recording import CallRecording
from voxload.clock import NS_PER_S
from voxload.engine import wire
from voxload.runners import recordings
from voxload.runners.recordings import RecordingWriter, render_spooled


def recorded(call_id: str, replaces: str = "") -> wire.Recording:
    recording = CallRecording(16_000, "pcm16")
    recording.agent(NS_PER_S, encode_audio(np.full(16_000, 9_000, np.int16), "pcm16"))
    recording.moment(NS_PER_S, "greeting")
    return wire.Recording(call_id, 0, 2 * NS_PER_S, recording.to_data(), replaces)


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "recordings").iterdir()}


@pytest.mark.parametrize("with_sent", [False, True])
def test_recordings_are_rendered_while_more_come(tmp_path: Path, with_sent: bool) -> None:
    writer = RecordingWriter(tmp_path, with_sent)
    assert writer.take(recorded("a")) == "recordings/a.wav"
    writer.take(recorded("b"))
    writer.take(recorded("c", replaces="a"))
    writer.close()
    assert writer.write_error == ""
    kinds = {"wav", "txt", "sent.wav"} if with_sent else {"wav", "txt"}
    assert names(tmp_path) == {f"{call}.{kind}" for call in "bc" for kind in kinds}
    whole = CallRecording.from_data(recorded("b").audio).wav(0, 2 * NS_PER_S)
    assert (tmp_path / "recordings" / "b.wav").read_bytes() == whole


def test_what_a_killed_run_had_not_rendered_is_rendered_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = threading.Event()
    monkeypatch.setattr(recordings, "render", lambda *_, **__: killed.wait())
    writer = RecordingWriter(tmp_path, False)
    for call in "abc":
        writer.take(recorded(call))
    assert names(tmp_path) == {"a.spool", "b.spool", "c.spool"}, "all of it is on the disk at once"
    monkeypatch.undo()
    spool = tmp_path / "recordings" / "c.spool"
    spool.write_bytes(spool.read_bytes()[:-1000])
    assert render_spooled(tmp_path) == 2
    assert {name for name in names(tmp_path) if name.endswith(".wav")} == {"a.wav", "b.wav"}
    assert render_spooled(tmp_path) == 0
    killed.set()
    writer.close()


def test_a_folder_that_is_gone_ends_no_run(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "gone", False)
    writer.take(recorded("a"))
    writer.close()
    assert "No such file" in writer.write_error
