"""Recordings on their way to the disk: spooled as they come in, rendered beside the run by a thread of low priority."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import msgspec

from voxload.audio.recording import CallRecording
from voxload.audio.recording_keeper import recording_file
from voxload.engine import wire
from voxload.errors import RunAbortedError
from voxload.process import yield_to_others
from voxload.runners.results import write_atomically
from voxload.runners.scoring import sent_file

SPOOL_SUFFIX = ".spool"

_decoder = msgspec.msgpack.Decoder(wire.Recording)


class RecordingWriter:
    """Writes recordings into a run's folder while the run goes on; memory holds no more than the one being rendered.

    Each is written as it comes in, then rendered in turn (about 10 ms for a call of 30 s) and its spool file removed.
    A command that is killed leaves spool files, from which `render_spooled` makes the recordings. A full disk does not
    end the run: `write_error` says why recordings are missing. With `with_sent` the agent's audio as it was sent is
    written too, for signal scores.
    """

    def __init__(self, folder: Path, with_sent: bool) -> None:
        self._folder = folder
        self._with_sent = with_sent
        self._thread = ThreadPoolExecutor(1, "recordings", initializer=yield_to_others)
        self.write_error = ""

    def take(self, recording: wire.Recording) -> str:
        """Take in the recording of a call that is over; returns its file within the folder, "" if there is none."""
        name = recording_file(recording.call_id)
        spool = (self._folder / name).with_suffix(SPOOL_SUFFIX)
        try:
            spool.parent.mkdir(exist_ok=True)
            spool.write_bytes(msgspec.msgpack.encode(recording))
        except OSError as error:
            name = ""
            self._trouble(f"{spool.name}: {error.strerror}")
            spool.unlink(missing_ok=True)  # a part of it is of no use
        else:
            self._thread.submit(self._render, spool)
        if recording.replaces:
            self._thread.submit(self._remove, self._folder / recording_file(recording.replaces))
        return name

    def close(self) -> None:
        """Wait until all are rendered."""
        self._thread.shutdown()

    def __enter__(self) -> Self:
        """Return the writer; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _render(self, spool: Path) -> None:
        try:
            render(spool, with_sent=self._with_sent)
            spool.unlink(missing_ok=True)
        except RunAbortedError as error:
            self._trouble(str(error))
        except OSError as error:
            self._trouble(f"{spool.name}: {error.strerror}")

    def _trouble(self, text: str) -> None:
        self.write_error = self.write_error or text

    @staticmethod
    def _remove(wav: Path) -> None:
        for path in (wav, wav.with_suffix(".txt"), Path(sent_file(str(wav))), wav.with_suffix(SPOOL_SUFFIX)):
            path.unlink(missing_ok=True)


def render(spool: Path, *, with_sent: bool = False) -> None:
    """Render what a spool file holds into a WAV file and a label track beside it.

    Raises:
        OSError: it cannot be read.
        RunAbortedError: the disk is full.
        msgspec.DecodeError: it was cut off.
    """
    found = _decoder.decode(spool.read_bytes())
    recording = CallRecording.from_data(found.audio)
    wav, span = spool.with_suffix(".wav"), (found.t0_ns, found.end_ns)
    if with_sent:
        write_atomically(Path(sent_file(str(wav))), recording.sent_wav())
    write_atomically(wav.with_suffix(".txt"), recording.label_track(*span))
    write_atomically(wav, recording.wav(*span))


def render_spooled(folder: Path) -> int:
    """Render, as far as it can be done, the recordings that a killed run has left unrendered; returns how many.

    The spool files stay: the run may go on still. One that was cut off is passed over.
    """
    count = 0
    for spool in sorted(folder.glob(f"recordings/*{SPOOL_SUFFIX}")):
        if not spool.with_suffix(".wav").exists():
            try:
                render(spool)
                count += 1
            except (OSError, RunAbortedError, msgspec.DecodeError):
                continue
    return count
