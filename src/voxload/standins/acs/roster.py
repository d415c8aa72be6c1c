"""Who takes part in a call, and the requests that change it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from voxload.standins.acs.bodies import (
    AddParticipant,
    CancelAdd,
    MoveParticipants,
    MuteParticipants,
    Operation,
    RemoveParticipant,
    check_participant,
)
from voxload.standins.acs.errors import ApiError, bad_request
from voxload.standins.acs.identifiers import identifier
from voxload.standins.acs.media_ops import DONE, Result, Timer

PARTICIPANT_NOT_FOUND = "8523"


@dataclass(slots=True)
class Participant:
    """One participant."""

    raw_id: str
    muted: bool = False
    on_hold: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return the API's object."""
        return {"identifier": identifier(self.raw_id), "isMuted": self.muted, "isOnHold": self.on_hold}


class Host(Protocol):
    """The call that the roster belongs to."""

    def event(self, kind: str, result: Result = DONE, **data: Any) -> None:
        """Send a callback."""

    def operation_event(self, kind: str, body: Operation, result: Result, **data: Any) -> None:
        """Send the callback of an operation."""

    def invite(self, done: Callable[[Result | None], None]) -> Timer:
        """Call somebody; `done` is told why it failed, None when it did not."""


class Roster:
    """The participants, in the order in which they came."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._members: dict[str, Participant] = {}
        self._invitations: dict[str, Timer] = {}
        self._sequence = 0

    def enter(self, raw_ids: Iterable[str]) -> None:
        """Let participants in and tell the backend."""
        for raw_id in raw_ids:
            self._members.setdefault(raw_id, Participant(raw_id))
        self._updated()

    def as_data(self) -> list[dict[str, Any]]:
        """Return the participants as the API writes them."""
        return [member.as_data() for member in self._members.values()]

    def find(self, raw_id: str) -> Participant:
        """Return one.

        Raises:
            ApiError: it is not there.
        """
        if raw_id not in self._members:
            raise ApiError(404, PARTICIPANT_NOT_FOUND, f"Participant {raw_id} not found.")
        return self._members[raw_id]

    def add(self, body: AddParticipant) -> dict[str, Any]:
        """Invite somebody."""
        raw_id = check_participant(body.participant_to_add, "participantToAdd")
        if raw_id in self._members:
            raise bad_request(f"Participant {raw_id} is in the call already.")
        invitation_id = str(uuid.uuid4())
        named = {"participant": identifier(raw_id)}

        def done(failure: Result | None) -> None:
            self._invitations.pop(invitation_id, None)
            if failure is None:
                self._members[raw_id] = Participant(raw_id)
                self._host.operation_event("AddParticipantSucceeded", body, DONE, **named)
                self._updated()
            else:
                self._host.operation_event("AddParticipantFailed", body, failure, **named)

        self._invitations[invitation_id] = self._host.invite(done)
        return {"participant": Participant(raw_id).as_data(), "invitationId": invitation_id}

    def cancel_add(self, body: CancelAdd) -> dict[str, Any]:
        """Take an invitation back."""
        timer = self._invitations.pop(body.invitation_id, None)
        named = {"invitationId": body.invitation_id}
        if timer is None:
            failure = (404, 8500, "The invitation is not there or has been taken.")
            self._host.operation_event("CancelAddParticipantFailed", body, failure, **named)
        else:
            timer.cancel()
            self._host.operation_event("CancelAddParticipantSucceeded", body, DONE, **named)
        return named

    def remove(self, body: RemoveParticipant) -> dict[str, Any]:
        """Show somebody out."""
        raw_id = check_participant(body.participant_to_remove, "participantToRemove")
        self.find(raw_id)
        del self._members[raw_id]
        self._host.operation_event("RemoveParticipantSucceeded", body, DONE, participant=identifier(raw_id))
        self._updated()
        return {}

    def mute(self, body: MuteParticipants) -> dict[str, Any]:
        """Mute participants."""
        for member in [self.find(check_participant(who, "targetParticipants")) for who in body.target_participants]:
            member.muted = True
        self._updated()
        return {}

    def take_from(self, other: Roster, body: MoveParticipants) -> dict[str, Any]:
        """Move participants of another call here."""
        moved = [other.find(check_participant(who, "targetParticipants")) for who in body.target_participants]
        for member in moved:
            other.leave(member.raw_id)
            self._members[member.raw_id] = member
            named = {"participant": identifier(member.raw_id), "fromCall": body.from_call}
            self._host.operation_event("MoveParticipantSucceeded", body, DONE, **named)
        self._updated()
        return {"participants": [member.as_data() for member in moved], "fromCall": body.from_call}

    def leave(self, raw_id: str) -> None:
        """Take a participant off the list and tell the backend."""
        self._members.pop(raw_id, None)
        self._updated()

    def hold(self, raw_id: str, on_hold: bool) -> None:
        """Put a participant on hold, or take it off."""
        self.find(raw_id).on_hold = on_hold
        self._updated()

    def _updated(self) -> None:
        self._sequence += 1
        self._host.event("ParticipantsUpdated", participants=self.as_data(), sequenceNumber=self._sequence)
