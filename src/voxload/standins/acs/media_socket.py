"""The media socket of a call whose other end the exchange plays itself: frames at their pace, replies counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import picows

from voxload.audio.corpus import load_corpus
from voxload.audio.frames import cut_frames, silence_frame
from voxload.clock import monotonic_ns, unix_ns
from voxload.dialects.acs_media import AcsMediaCaller, AcsMediaDialect, AcsMediaOptions
from voxload.dialects.base import AudioIn, CallIdentity, Message
from voxload.standins.acs.counters import Counters
from voxload.standins.acs.party import MediaOrder
from voxload.wheel import Wheel

FRAME_NS = 20_000_000
PAUSE_FRAMES = 100
"""Between two utterances of somebody who speaks: 2 s."""
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
DIAL_TIMEOUT_S = 10.0


class Sound:
    """What is sent on media sockets, encoded once for each sample rate."""

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


class Studio(NamedTuple):
    """What all media sockets of an exchange share."""

    sound: Sound
    wheel: Wheel
    counters: Counters


class Told(NamedTuple):
    """Who is told what becomes of a socket."""

    opened: Callable[[], None]
    failed: Callable[[str], None]
    lost: Callable[[], None]


class MediaSocket(picows.WSListener):
    """One media socket."""

    def __init__(self, order: MediaOrder, speaker: str, studio: Studio, told: Told) -> None:
        super().__init__()
        options = AcsMediaOptions(sample_rate=order.sample_rate_hz)
        identity = CallIdentity(0, order.connection_id, {"caller_number": speaker})
        self._session = AcsMediaCaller(order.url, options, identity)
        self._session.subscription_id = order.subscription_id
        self._studio = studio
        self._told = told
        self._order = order
        self._track = studio.sound.track(order.sample_rate_hz)
        self._frame = 0
        self._transport: picows.WSTransport | None = None
        self._closed = self._paused = False

    async def dial(self) -> None:
        """Open the socket, or tell why it does not open."""
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
        except picows.WSInvalidStatusError as error:
            status = error.response.status if error.response is not None else "?"
            self._told.failed(f"The media socket {self._order.url} was refused with {status}.")
        except (OSError, TimeoutError, picows.WSError, ValueError) as error:
            words = str(error) or type(error).__name__
            self._told.failed(f"The media socket {self._order.url} could not be opened: {words}")

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
            self._studio.counters.media["frames_sent"] += 1
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
        self._studio.wheel.at(monotonic_ns() + FRAME_NS, self._on_due)
        self._told.opened()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Count what the backend says."""
        if frame.msg_type == picows.WSMsgType.TEXT and frame.fin:
            for event in self._session.decode(frame.get_payload_as_bytes(), True):
                if isinstance(event, AudioIn):
                    self._studio.counters.media["frames_received"] += 1
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows' signature
        """The socket is gone."""
        self._transport = None
        if not self._closed:
            self._told.lost()

    def pause_writing(self) -> None:
        """The backend does not read: frames are dropped, as real-time audio is."""
        self._paused = True

    def resume_writing(self) -> None:
        """The backend reads again."""
        self._paused = False
