"""People whom the exchange plays itself: those whom the backend calls, and a visitor who rings it once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voxload.clock import NS_PER_S
from voxload.model.exchange import ExchangeSettings
from voxload.model.outcome import Outcome
from voxload.standins.acs.media_ops import Result
from voxload.standins.acs.media_socket import MediaSocket, Told
from voxload.standins.acs.party import Asked, MediaOrder

if TYPE_CHECKING:
    from voxload.standins.acs.calls import Call
    from voxload.standins.acs.exchange import Exchange

FAILURES: dict[str, Result] = {
    "busy": (486, 560486, "The callee is busy."),
    "no_answer": (480, 560480, "The callee did not answer."),
    "declined": (603, 560603, "The callee declined the call."),
}
"""Result of a call that is not answered: SIP code, and the subcode that the service makes of it for telephones."""


def span_ns(span: tuple[int, int], rng: random.Random) -> int:
    """Draw evenly from a span."""
    return rng.randint(*span)


def draw_failure(settings: ExchangeSettings, rng: random.Random) -> tuple[Result | None, int]:
    """Draw how somebody who is called reacts, and after how long; None: the call is answered."""
    weights = settings.callee.outcomes
    outcome = rng.choices(list(weights), list(weights.values()))[0]
    if outcome == "no_answer":
        return FAILURES[outcome], settings.ring_timeout_ns
    return FAILURES.get(outcome), span_ns(settings.callee.answer_delay_ns, rng)


class Acted:
    """Somebody at the other end of a call, played by the exchange: presses keys, speaks, is heard; see `Party`."""

    call: Call

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._socket: MediaSocket | None = None

    def hang_up(self) -> None:
        """End the call."""
        self.close_media()
        self.call.end_by_party()

    def waiting(self, step: str) -> None:
        """Nobody waits here."""

    def refused(self, outcome: Outcome, reason: str) -> None:
        """The call is over."""

    def complaint(self, code: str, message: str) -> None:
        """Nobody listens here; the counters tell."""

    def finished(self, reason: str) -> None:  # noqa: ARG002  # as `Party` has it
        """The backend has hung up."""
        self.close_media()

    def open_media(self, order: MediaOrder) -> None:
        """Dial the backend's media socket."""
        told = Told(self.media_opened, self.media_failed, self.call.media_lost)
        self._socket = MediaSocket(order, self.call.other_end, self._exchange.studio, told)
        self._exchange.postman.spawn(self._socket.dial())

    def media_opened(self) -> None:
        """The backend has accepted the media socket."""
        self.call.media_opened()

    def media_failed(self, reason: str) -> None:
        """The backend's media socket does not open."""
        self.call.media_failed(reason)

    def close_media(self) -> None:
        """Close the media socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def asked(self, wish: Asked) -> None:
        """Press the keys, or say the words."""
        callee, rng = self._exchange.settings.callee, self._exchange.rng
        after_ns = 0
        for digit in callee.digits[: wish.digits]:
            after_ns += span_ns(callee.reaction_ns, rng)
            self._press_later(digit, after_ns)
        if wish.words and not (wish.digits and callee.digits) and callee.words:
            self.call.later(span_ns(callee.reaction_ns, rng), lambda: self.call.said(callee.words))

    def _press_later(self, digit: str, after_ns: int) -> None:
        def press() -> None:
            if self._socket is not None:
                self._socket.press(digit)
            self.call.pressed(digit)

        self.call.later(after_ns, press)


class Visitor(Acted):
    """Rings a backend once and tells every step, for somebody who watches."""

    def __init__(self, exchange: Exchange, seconds: float, tell: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(exchange)
        self._stay_ns = round(seconds * NS_PER_S)
        self._tell = tell
        self._open = False

    def ring(self, webhook: str, source: str, target: str) -> None:
        """Ring."""
        self.call = self._exchange.ring(self, source, target, webhook, {})
        self.call.later(self._exchange.settings.ring_timeout_ns + self._stay_ns, self._give_up)

    def waiting(self, step: str) -> None:
        """Tell what the set-up waits for."""
        self._tell({"step": f"waiting for {step}"})

    def media_opened(self) -> None:
        """Stay for a while."""
        super().media_opened()
        self._tell({"step": "the media socket is open", "call_connection_id": self.call.connection_id})
        self._open = True
        self.call.later(self._stay_ns, self._leave)

    def media_failed(self, reason: str) -> None:
        """Give up."""
        self.hang_up()
        self._tell({"outcome": Outcome.REJECTED.value, "reason": reason})

    def _leave(self) -> None:
        self.hang_up()
        self._tell({"outcome": Outcome.COMPLETED.value, "reason": "the caller hung up"})

    def _give_up(self) -> None:
        if not self._open:
            self.hang_up()
            self._tell({"outcome": Outcome.SETUP_TIMEOUT.value, "reason": "the backend has not asked for media"})

    def refused(self, outcome: Outcome, reason: str) -> None:
        """Tell why there is no call."""
        self._tell({"outcome": outcome.value, "reason": reason})

    def finished(self, reason: str) -> None:
        """Tell who hung up."""
        super().finished(reason)
        self._tell({"outcome": Outcome.COMPLETED.value, "reason": reason})

    def complaint(self, code: str, message: str) -> None:
        """Tell what the backend does wrong."""
        self._tell({"complaint": code, "message": message})


class Callee(Acted):
    """The other end of a call that the backend has placed."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        super().__init__(exchange)
        self.call = call
        call.party = self

    def join(self) -> None:
        """Be there already."""
        self.call.later(self._exchange.settings.connect_delay_ns, self.call.connect)

    def ring(self) -> None:
        """Decide whether to pick up, and do so in time."""
        failure, delay_ns = draw_failure(self._exchange.settings, self._exchange.rng)
        self.call.later(delay_ns, lambda: self.pick_up() if failure is None else self.call.fail(failure))

    def pick_up(self) -> None:
        """Answer."""
        span = self._exchange.settings.callee.hang_up_after_ns
        self.call.connect()
        if span is not None:
            self.call.later(span_ns(span, self._exchange.rng), self.hang_up)
