"""Recordings of calls: their state and its callbacks; no audio is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxload.clock import NS_PER_S, unix_ns, utc_text
from voxload.standins.acs.bodies import StartRecording, check_callback
from voxload.standins.acs.errors import ApiError
from voxload.standins.acs.tokens import opaque

if TYPE_CHECKING:
    from voxload.standins.acs.calls import Call

NOT_FOUND = ("8522", "Recording not found.")
ALREADY = ("8553", "Recording is already in progress.")


@dataclass(slots=True)
class Recording:
    """One recording."""

    id: str
    call: Call
    callback_uri: str | None
    started: str
    active: bool

    def as_data(self) -> dict[str, Any]:
        """Return the API's object."""
        state = "active" if self.active else "inactive"
        return {"recordingId": self.id, "recordingState": state, "recordingKind": "azureCommunicationServices"}

    def tell(self) -> None:
        """Send the callback of the state."""
        state = "active" if self.active else "inactive"
        kind = {"recordingKind": "azureCommunicationServices", "startDateTime": self.started}
        self.call.event_to(self.callback_uri, "RecordingStateChanged", recordingId=self.id, state=state, **kind)


class Recordings:
    """All recordings under way."""

    def __init__(self) -> None:
        self._recordings: dict[str, Recording] = {}

    def start(self, call: Call, body: StartRecording) -> dict[str, Any]:
        """Start one; a call has one at most.

        Raises:
            ApiError: it has one already, or the callback address is no URL.
        """
        if any(recording.call is call for recording in self._recordings.values()):
            raise ApiError(400, *ALREADY)
        callback = body.recording_state_callback_uri
        if callback is not None:
            check_callback(callback)
        started = f"{utc_text(unix_ns() // NS_PER_S)}Z"
        recording = Recording(opaque("recording"), call, callback, started, not body.pause_on_start)
        self._recordings[recording.id] = recording
        recording.tell()
        return recording.as_data()

    def find(self, recording_id: str) -> Recording:
        """Return one.

        Raises:
            ApiError: it is not there.
        """
        if recording_id not in self._recordings:
            raise ApiError(404, *NOT_FOUND)
        return self._recordings[recording_id]

    def switch(self, recording_id: str, active: bool) -> None:
        """Pause or resume one."""
        recording = self.find(recording_id)
        if recording.active != active:
            recording.active = active
            recording.tell()

    def stop(self, recording_id: str) -> None:
        """Stop one for good."""
        self.switch(recording_id, False)
        del self._recordings[recording_id]

    def forget(self, call: Call) -> None:
        """The call is over, and with it its recording."""
        for recording in [found for found in self._recordings.values() if found.call is call]:
            self.stop(recording.id)
