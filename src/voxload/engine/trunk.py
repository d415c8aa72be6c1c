"""The trunk: one WebSocket between all callers of a shard and the exchange that rings the agents for them."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import picows
from python_socks import ProxyError

from voxload.clock import Clock
from voxload.dialects.base import Dial, Dialect
from voxload.engine.call import Call
from voxload.engine.proxies import proxy_for
from voxload.engine.reach import tls_words
from voxload.errors import RunAbortedError

CONNECT_TIMEOUT_S = 10.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class Trunk(picows.WSListener):
    """Carries signals of calls to the exchange and back; `broken(reason)` is called once if the exchange is lost."""

    def __init__(
        self, dialect: Dialect, clock: Clock, broken: Callable[[str], None], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._dialect = dialect
        self._clock = clock
        self._broken = broken
        self._tls = tls
        self._calls: dict[str, Call] = {}
        self._transport: picows.WSTransport | None = None
        self._closing = False

    async def open(self, dial: Dial) -> None:
        """Connect to the exchange.

        Raises:
            RunAbortedError: it cannot be reached.
        """
        try:
            await picows.ws_connect(
                lambda: self,
                dial.url,
                ssl_context=self._tls,
                proxy=proxy_for(dial.url),
                websocket_handshake_timeout=CONNECT_TIMEOUT_S,
                extra_headers=dict(dial.headers),
                max_frame_size=MESSAGE_BYTES_MAX,
                use_aiofastnet=False,
            )
        except (OSError, TimeoutError, picows.WSError, ProxyError) as error:
            raise RunAbortedError(
                f"the exchange at {dial.url} cannot be reached: {tls_words(error) or error}"
            ) from None

    def close(self) -> None:
        """Hang up on the exchange."""
        self._closing = True
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()

    def send(self, call: Call, payload: bytes) -> None:
        """Send a signal of `call`, which from now on gets those that come for it."""
        self._calls[call.spec.call_id] = call
        if self._transport is not None:
            self._transport.send(picows.WSMsgType.BINARY, payload)

    def forget(self, call: Call) -> None:
        """Hand no more signals to a call that is over."""
        self._calls.pop(call.spec.call_id, None)

    # --- what picows reports ---

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """A signal has come; the exchange is ours and sends each in one frame."""
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.BINARY:
            payload = frame.get_payload_as_bytes()
            call = self._calls.get(self._dialect.signal_call_id(payload))
            if call is not None:
                call.on_signal(payload, self._clock())

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002  # picows' signature
        """The exchange is gone: no call can be set up any more."""
        self._transport = None
        if not self._closing:
            self._broken("the exchange has gone away in the middle of the run")
