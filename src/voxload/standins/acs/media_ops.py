"""Prompts and recognitions of a call: one after the other, in the order in which they were asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from voxload.clock import NS_PER_S
from voxload.standins.acs.bodies import Operation, Play, Recognize
from voxload.standins.acs.errors import bad_request
from voxload.standins.acs.party import Asked
from voxload.standins.acs.tones import known_tone, tone_name

INITIAL_SILENCE_S = 5.0
INTER_TONE_S = 2.0
KINDS = {"dtmf", "speech", "speechordtmf", "choices"}
DONE = (200, 0, "Action completed successfully.")
CANCELED = (400, 8508, "Action failed, the operation was canceled.")
MAX_DIGITS = (200, 8531, "Action completed, max digits received.")
STOP_TONE = (200, 8514, "Action completed as stop tone was detected.")
TONE_CHOSEN = (200, 8533, "Action completed, DTMF option matched.")
SPEECH_CHOSEN = (200, 8545, "Action completed, speech option matched.")
INITIAL_SILENCE = (400, 8510, "Action failed, initial silence timeout reached.")
INTER_DIGIT = (400, 8532, "Action failed, inter-digit silence timeout reached.")
WRONG_TONE = (400, 8534, "Action failed, incorrect tone entered.")
NO_CHOICE = (400, 8547, "Action failed, speech option not matched.")

Result = tuple[int, int, str]


class Timer(Protocol):
    """A deadline that can be given up."""

    def cancel(self) -> None:
        """Forget it."""


class Host(Protocol):
    """The call that the operations belong to."""

    def operation_event(self, kind: str, body: Operation, result: Result, **data: Any) -> None:
        """Send the callback of an operation."""

    def later(self, delay_ns: int, work: Callable[[], None]) -> Timer:
        """Do something later, unless the call is over by then."""

    def ask(self, wish: Asked) -> None:
        """Tell the other end what the backend wants to hear."""


class MediaOperations:
    """The queue."""

    def __init__(self, host: Host, play_ns: int) -> None:
        self.host = host
        self.play_ns = play_ns
        self._waiting: deque[_Task] = deque()
        self._current: _Task | None = None

    def play(self, body: Play) -> None:
        """Queue a prompt.

        Raises:
            ApiError: there is nothing to play.
        """
        if not body.play_sources:
            raise bad_request("The field playSources is empty.")
        self._add(_Prompt(self, body), bool(body.interrupt_call_media_operation))

    def recognize(self, body: Recognize) -> None:
        """Queue a recognition.

        Raises:
            ApiError: its options make no sense.
        """
        kind, options = body.recognize_input_type.lower(), body.recognize_options
        if kind not in KINDS:
            raise bad_request(f"The field recognizeInputType is invalid: {body.recognize_input_type!r}.")
        if kind == "choices" and not options.choices:
            raise bad_request("The field recognizeOptions.choices is empty.")
        stop_tones = (options.dtmf_options and options.dtmf_options.stop_tones) or []
        unknown = [tone for tone in stop_tones if not known_tone(tone)]
        if unknown:
            raise bad_request(f"The field dtmfOptions.stopTones has no tone {unknown[0]!r}.")
        self._add(_Recognition(self, body, kind), bool(body.interrupt_call_media_operation))

    def cancel_all(self) -> None:
        """Cancel what runs and what waits."""
        tasks = [*([self._current] if self._current else []), *self._waiting]
        self._waiting.clear()
        self._current = None
        for task in tasks:
            task.cancel()

    def pressed(self, digit: str) -> None:
        """The other end has pressed a key."""
        if self._current is not None:
            self._current.pressed(tone_name(digit))

    def said(self, text: str) -> None:
        """The other end has said something."""
        if self._current is not None:
            self._current.said(text)

    def close(self) -> None:
        """The call is over: nothing is reported any more."""
        if self._current is not None:
            self._current.stop()
        self._current = None
        self._waiting.clear()

    def over(self, task: _Task) -> None:
        """One is done: the next begins."""
        if self._current is task:
            self._current = None
            self._next()

    def _add(self, task: _Task, interrupt: bool) -> None:
        if interrupt:
            self.cancel_all()
        self._waiting.append(task)
        if self._current is None:
            self._next()

    def _next(self) -> None:
        if self._waiting:
            self._current = self._waiting.popleft()
            self._current.start()


class _Task(ABC):
    """One operation; `body` is its request."""

    canceled: str

    def __init__(self, queue: MediaOperations, body: Operation) -> None:
        self._queue = queue
        self._body = body
        self._timer: Timer | None = None

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    def pressed(self, tone: str) -> None:  # noqa: B027  # prompts take no notice
        """Take a key."""

    def said(self, text: str) -> None:  # noqa: B027  # as above
        """Take words."""

    def stop(self) -> None:
        """Forget the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cancel(self) -> None:
        """Stop, and say so."""
        self.stop()
        self._tell(self.canceled, CANCELED)

    def _wait(self, delay_ns: int, work: Callable[[], None]) -> None:
        self.stop()
        self._timer = self._queue.host.later(delay_ns, work)

    def _tell(self, kind: str, result: Result, **data: Any) -> None:
        self._queue.host.operation_event(kind, self._body, result, **data)

    def _end(self, kind: str, result: Result, **data: Any) -> None:
        self.stop()
        self._tell(kind, result, **data)
        self._queue.over(self)


class _Prompt(_Task):
    canceled = "PlayCanceled"

    def __init__(self, queue: MediaOperations, body: Play) -> None:
        super().__init__(queue, body)
        self._loop = bool(body.play_options and body.play_options.loop)

    def start(self) -> None:
        self._tell("PlayStarted", DONE)
        if not self._loop:
            self._wait(self._queue.play_ns, lambda: self._end("PlayCompleted", DONE))


class _Recognition(_Task):
    canceled = "RecognizeCanceled"

    def __init__(self, queue: MediaOperations, body: Recognize, kind: str) -> None:
        super().__init__(queue, body)
        options = body.recognize_options
        dtmf = options.dtmf_options
        self._kind = kind
        self._choices = options.choices or []
        self._prompts = bool(body.play_prompt or body.play_prompts)
        self._interrupt_prompt = bool(options.interrupt_prompt)
        self._silence_s = _or_default(options.initial_silence_timeout_in_seconds, INITIAL_SILENCE_S)
        self._inter_tone_s = _or_default(dtmf.inter_tone_timeout_in_seconds if dtmf else None, INTER_TONE_S)
        self._tones_max = (dtmf.max_tones_to_collect if dtmf else None) or 0
        self._stop_tones = {tone.lower() for tone in (dtmf.stop_tones if dtmf else None) or ()}
        self._tones: list[str] = []
        self._listening = False

    def start(self) -> None:
        if self._prompts:
            self._wait(self._queue.play_ns, self._listen)
        else:
            self._listen()

    def _listen(self) -> None:
        self._listening = True
        self._wait(round(self._silence_s * NS_PER_S), lambda: self._end("RecognizeFailed", INITIAL_SILENCE))
        digits = (self._tones_max or 1) if self._kind in {"dtmf", "speechordtmf"} else 0
        self._queue.host.ask(Asked(digits, self._kind != "dtmf"))

    def pressed(self, tone: str) -> None:
        if not self._listening and not self._interrupt_prompt:
            return
        self._listening = True
        if self._kind == "choices":
            self._choose_by_tone(tone)
        elif self._kind != "speech":
            self._collect(tone)

    def _collect(self, tone: str) -> None:
        if tone in self._stop_tones:
            self._end_with_tones(STOP_TONE)
            return
        self._tones.append(tone)
        if len(self._tones) == self._tones_max:
            self._end_with_tones(MAX_DIGITS)
        else:
            self._wait(round(self._inter_tone_s * NS_PER_S), lambda: self._end("RecognizeFailed", INTER_DIGIT))

    def _end_with_tones(self, result: Result) -> None:
        self._end("RecognizeCompleted", result, recognitionType="dtmf", dtmfResult={"tones": self._tones})

    def _choose_by_tone(self, tone: str) -> None:
        for choice in self._choices:
            if choice.tone is not None and choice.tone.lower() == tone:
                self._end(
                    "RecognizeCompleted", TONE_CHOSEN, recognitionType="choices", choiceResult={"label": choice.label}
                )
                return
        self._end("RecognizeFailed", WRONG_TONE)

    def said(self, text: str) -> None:
        if not self._listening and not self._interrupt_prompt:
            return
        match self._kind:
            case "speech" | "speechordtmf" if not self._tones:
                result = {"speech": text, "confidence": 1.0}
                self._end("RecognizeCompleted", DONE, recognitionType="speech", speechResult=result)
            case "choices":
                self._choose_by_words(text)
            case _:
                pass

    def _choose_by_words(self, text: str) -> None:
        for choice in self._choices:
            phrase = _spoken(choice.phrases, text)
            if phrase is not None:
                result = {"label": choice.label, "recognizedPhrase": phrase, "confidence": 1.0}
                self._end("RecognizeCompleted", SPEECH_CHOSEN, recognitionType="choices", choiceResult=result)
                return
        self._end("RecognizeFailed", NO_CHOICE)


def _or_default(value: float | None, default: float) -> float:
    return default if value is None else value


def _spoken(phrases: Sequence[str], text: str) -> str | None:
    """Return the phrase that stands in a text, word for word."""
    words = f" {' '.join(_words(text))} "
    return next((phrase for phrase in phrases if f" {' '.join(_words(phrase))} " in words), None)


def _words(text: str) -> list[str]:
    return "".join(char if char.isalnum() else " " for char in text.casefold()).split()
