"""The audio of a stream in real time: each message goes out when it is complete, whichever client sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from voxload.clock import NS_PER_S
from voxload.model.outcome import Outcome
from voxload.services.base import Operation, OperationFailedError
from voxload.services.speech.material import MESSAGE_NS, Script
from voxload.services.speech.options import RecognitionOptions
from voxload.services.speech.results import Heard
from voxload.wheel import Wheel

_GOLDEN = 0.6180339887498949


class Pacer:
    """Calls `send` with every message of a script, and with silence after it while the line stays open, then `end`.

    `over` is the future that says how the stream ended; once it is done nothing more is sent.
    """

    def __init__(self, operation: Operation, script: Script, options: RecognitionOptions, heard: Heard) -> None:
        self._clock, self._recorder, self._index = operation.clock, operation.recorder, operation.index
        self._script, self._options, self._heard = script, options, heard
        self._send: Callable[[bytes], None] = lambda _: None
        self._end: Callable[[], None] = lambda: None
        self.next = 0
        """The message that is sent next."""
        self.ended = False
        """All audio has been sent."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, wheel: Wheel, send: Callable[[bytes], None], end: Callable[[], None]) -> None:
        """Begin within the next 100 ms: streams that start together are not in step."""
        self._send, self._end = send, end
        self._heard.first_ns = self._clock() + int(MESSAGE_NS * (self._index * _GOLDEN % 1))
        wheel.at(self._heard.first_ns + self._script.due_ns(0), self._on_due)

    def message(self, index: int) -> bytes:
        """Return a message of the script, or the silence after it."""
        messages = self._script.messages
        return messages[index] if index < len(messages) else self._script.silence

    def succeed(self) -> None:
        """The stream has come to its end."""
        if not self.over.done():
            self._heard.over = self.ended
            self.over.set_result(None)

    def fail(self, failure: OperationFailedError) -> None:
        """End the stream with a failure, unless it is over."""
        if not self.over.done():
            self.over.set_exception(failure)

    def _on_due(self, due_ns: int) -> int:
        """Send the message that is complete; returns when the next one is, 0 after the last."""
        if self.over.done():
            return 0
        try:
            return self._step(due_ns)
        except Exception as defect:  # noqa: BLE001  # must not take the other streams of the wheel down
            self.fail(OperationFailedError(Outcome.INTERNAL_ERROR, f"sending audio: {defect!r}"))
            return 0

    def _step(self, due_ns: int) -> int:
        now_ns, recorder, script, index = self._clock(), self._recorder, self._script, self.next
        payload = self.message(index)
        self._send(payload)
        recorder.ledger.add(now_ns - due_ns, len(payload))
        self._heard.sent_ns = script.due_ns(index)
        self.next = index = index + 1
        if index < len(script.messages) or not self._may_close(now_ns):
            return self._heard.first_ns + script.due_ns(index)
        self.ended = True
        self._end()
        asyncio.get_running_loop().call_later(self._options.final_timeout_ns / NS_PER_S, self._give_up)
        return 0

    def _may_close(self, now_ns: int) -> bool:
        """Whether all is said, and the last utterance has a result, be it NoMatch, or has waited long enough for it."""
        last = self._script.said[-1]
        if self._options.finish == "close" or any(result.is_of(last) for result in self._heard.final):
            return True
        return now_ns - self._heard.first_ns - last.end_ns > self._options.final_timeout_ns

    def _give_up(self) -> None:
        self._heard.over = True
        timeout_s = self._options.final_timeout_ns / NS_PER_S
        reason = f"the service did not end the turn within {timeout_s:g} s of the last audio (final_timeout)"
        self.fail(OperationFailedError(Outcome.TIMEOUT, reason))
