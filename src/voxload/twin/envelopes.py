"""Messages of the agent's own beside the protocol: it tells at stated times how its work goes, as real backends do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

from voxload.draws import chance
from voxload.model.twin import Envelope, EnvelopeMoment
from voxload.twin.record import CallRecord
from voxload.twin.speaking import Send

if TYPE_CHECKING:
    from voxload.twin.desk import Desk
    from voxload.twin.exchange import Exchange


class Envelopes:
    """The envelopes of one call; once it is `over` nothing is sent."""

    __slots__ = ("_desk", "_record", "_send", "over")

    def __init__(self, desk: Desk, record: CallRecord, send: Send) -> None:
        self._desk = desk
        self._record = record
        self._send = send
        self.over = False

    def tell(self, moment: EnvelopeMoment, at_ns: int, exchange: Exchange | None = None) -> None:
        """Send what is due at a moment or after it; in a turn that another one follows, nothing more."""
        settings, turn = self._desk.settings, self._record.turns
        for number, envelope in enumerate(settings.envelopes):
            drawn = chance(envelope.share, settings.seed, self._record.call_id, turn, f"envelope {number}")
            if envelope.moment == moment and drawn:
                self._later(envelope, at_ns + envelope.after_ns, turn, self._values(turn, exchange))

    def _later(self, envelope: Envelope, due_ns: int, turn: int, values: Mapping[str, str]) -> None:
        def send(_due_ns: int) -> int:
            if not self.over and self._record.turns == turn:
                self._send(json.dumps(_filled(envelope.send, values)).encode(), True)
            return 0

        self._desk.wheel.at(max(due_ns, self._desk.clock()), send)

    def _values(self, turn: int, exchange: Exchange | None) -> dict[str, str]:
        said = ("", "", "") if exchange is None else (exchange.heard, exchange.intent, exchange.reply.text)
        return {
            **dict(zip(("heard", "intent", "reply"), said, strict=True)),
            "call_id": self._record.call_id,
            "turn": str(turn),
        }


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return a message with the variables in its texts filled in."""
    if isinstance(value, str):
        return Template(value).substitute(values) if "$" in value else value
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_filled(item, values) for item in value]
    return value
