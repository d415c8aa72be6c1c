"""Whom the backend calls: somebody who picks up, or does not, presses keys, and is heard on the media socket."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import picows

from voxload.audio.corpus import load_corpus
from voxload.audio.frames import cut_frames, silence_frame
from voxload.clock import monotonic_ns, unix_ns
from voxload.dialects.acs_media import AcsMediaCaller, AcsMediaDialect, AcsMediaOptions
from voxload.dialects.base import AudioIn, CallIdentity, Message
from voxload.model.exchange import ExchangeSettings
from voxload.model.outcome import Outcome
from voxload.standins.acs.media_ops import Result
from voxload.standins.acs.party import Asked, MediaOrder
from voxload.wheel import Wheel

if TYPE_CHECKING:
    from voxload.standins.acs.calls import Call
    from voxload.standins.acs.exchange import Exchange

FRAME_NS = 20_000_000
PAUSE_FRAMES = 100
"""Between two utterances of a callee that speaks: 2 s."""
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
DIAL_TIMEOUT_S = 10.0
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


class Sound:
    """What callees send on their media sockets, encoded once for each sample rate."""

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._tracks: dict[int, tuple[bytes, ...]] = {}

    def track(self, sample_rate_hz: int) -> tuple[bytes, ...]:
        """Return prepared frames, to be sent in a loop."""
        if sample_rate_hz not in self._tracks:
            silence = silence_frame(sample_rate_hz, "pcm16", FRAME_NS // 1_000_000)
            frames: tuple[bytes, ...] = (silence,)
            if self._speaks:
                said = cut_frames(load_corpus().callers[0], sample_rate_hz, "pcm16", FRAME_NS // 1_000_000)
                frames = ((silence,) * PAUSE_FRAMES) + said.frames
            dialect = AcsMediaDialect("", AcsMediaOptions(sample_rate=sample_rate_hz))
            self._tracks[sample_rate_hz] = tuple(dialect.prepare_caller(frames))
        return self._tracks[sample_rate_hz]


class Callee:
    """The other end of a call that the backend has placed; see `Party`."""

    def __init__(self, exchange: Exchange, call: Call) -> None:
        self._exchange = exchange
        self._call = call
        self._socket: MediaSocket | None = None
        call.party = self

    def join(self) -> None:
        """Be there already."""
        self._call.later(self._exchange.settings.connect_delay_ns, self._call.connect)

    def ring(self) -> None:
        """Decide whether to pick up, and do so in time."""
        failure, delay_ns = draw_failure(self._exchange.settings, self._exchange.rng)
        self._call.later(delay_ns, lambda: self.pick_up() if failure is None else self._call.fail(failure))

    def pick_up(self) -> None:
        """Answer."""
        span = self._exchange.settings.callee.hang_up_after_ns
        self._call.connect()
        if span is not None:
            self._call.later(span_ns(span, self._exchange.rng), self._hang_up)

    def _hang_up(self) -> None:
        self.close_media()
        self._call.end_by_party()

    # --- as a party ---

    def waiting(self, step: str) -> None:
        """Nobody waits here."""

    def refused(self, outcome: Outcome, reason: str) -> None:
        """The call is over."""

    def open_media(self, order: MediaOrder) -> None:
        """Dial the backend's media socket."""
        socket = MediaSocket(self._exchange, self._call, order)
        self._socket = socket
        self._exchange.postman.spawn(socket.dial())

    def close_media(self) -> None:
        """Close it."""
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
            self._call.later(span_ns(callee.reaction_ns, rng), lambda: self._call.said(callee.words))

    def _press_later(self, digit: str, after_ns: int) -> None:
        def press() -> None:
            if self._socket is not None:
                self._socket.press(digit)
            self._call.pressed(digit)

        self._call.later(after_ns, press)

    def finished(self, reason: str) -> None:  # noqa: ARG002  # as `Party` has it
        """The backend has hung up."""
        self.close_media()

    def complaint(self, code: str, message: str) -> None:
        """Nobody listens here; the counters tell."""


class MediaSocket(picows.WSListener):
    """A callee's media socket: frames at their pace, and what the backend says is counted."""

    def __init__(self, exchange: Exchange, call: Call, order: MediaOrder) -> None:
        super().__init__()
        options = AcsMediaOptions(sample_rate=order.sample_rate_hz)
        identity = CallIdentity(0, call.connection_id, {"caller_number": call.other_end})
        self._session = AcsMediaCaller(order.url, options, identity)
        self._session.subscription_id = order.subscription_id
        self._exchange = exchange
        self._call = call
        self._order = order
        self._track = exchange.sound.track(order.sample_rate_hz)
        self._frame = 0
        self._transport: picows.WSTransport | None = None
        self._closed = self._paused = False

    async def dial(self) -> None:
        """Open the socket, or tell the call why it does not open."""
        try:
            await picows.ws_connect(
                lambda: self,
                self._order.url,
                websocket_handshake_timeout=DIAL_TIMEOUT_S,
                extra_headers=self._order.headers,
                max_frame_size=MESSAGE_BYTES_MAX,
                max_redirects=0,
                use_aiofastnet=False,
            )
        except (OSError, TimeoutError, picows.WSError, ValueError) as error:
            self._call.media_failed(f"The media socket could not be opened: {str(error) or type(error).__name__}")

    def press(self, digit: str) -> None:
        """Press a key, where the backend wants tones on the socket."""
        if self._order.dtmf:
            self._send(self._session.dtmf(digit)[0])

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()

    def _send(self, message: object) -> None:
        if self._transport is not None and isinstance(message, Message):
            self._transport.send(picows.WSMsgType.TEXT, message.payload)

    def _on_due(self, due_ns: int) -> int:
        if self._transport is None or self._closed:
            return 0
        if not self._paused:
            prepared = self._track[self._frame % len(self._track)]
            self._transport.send(picows.WSMsgType.TEXT, self._session.stamp(prepared, self._frame, unix_ns()))
            self._exchange.counters.media["frames_sent"] += 1
        self._frame += 1
        return due_ns + FRAME_NS

    # --- what picows reports ---

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        if self._closed:
            transport.disconnect()
            return
        for message in self._session.on_connected():
            self._send(message)
        wheel: Wheel = self._exchange.wheel
        wheel.at(monotonic_ns() + FRAME_NS, self._on_due)
        self._call.media_opened()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Count what the backend says."""
        if frame.msg_type == picows.WSMsgType.TEXT and frame.fin:
            for event in self._session.decode(frame.get_payload_as_bytes(), True):
                if isinstance(event, AudioIn):
                    self._exchange.counters.media["frames_received"] += 1
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows' signature
        """The socket is gone."""
        self._transport = None
        if not self._closed:
            self._call.media_lost()

    def pause_writing(self) -> None:
        """The backend does not read: frames are dropped, as real-time audio is."""
        self._paused = True

    def resume_writing(self) -> None:
        """The backend reads again."""
        self._paused = False
