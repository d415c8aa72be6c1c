"""The other end of a call: a caller behind a trunk, or a callee that the exchange plays itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from voxload.model.outcome import Outcome


class MediaOrder(NamedTuple):
    """The backend wants media: where, and how."""

    connection_id: str
    url: str
    headers: dict[str, str]
    sample_rate_hz: int
    subscription_id: str
    bidirectional: bool
    dtmf: bool


class Asked(NamedTuple):
    """The backend wants to hear something: keys (how many at most), or words."""

    digits: int = 0
    words: bool = False


class Party(Protocol):
    """What a call tells its other end."""

    def waiting(self, step: str) -> None:
        """The set-up now waits for this."""

    def refused(self, outcome: Outcome, reason: str) -> None:
        """The call cannot be set up."""

    def open_media(self, order: MediaOrder) -> None:
        """Dial the backend's media socket."""

    def close_media(self) -> None:
        """Close it; the call goes on."""

    def asked(self, wish: Asked) -> None:
        """The backend listens for keys or words."""

    def finished(self, reason: str) -> None:
        """The backend has ended the call."""

    def complaint(self, code: str, message: str) -> None:
        """The backend has done something wrong that does not end the call."""
