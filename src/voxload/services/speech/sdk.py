"""The vendor's client of the Speech service: native threads, of which each recogniser has several."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.measure.extra import require
from voxload.model.outcome import Outcome
from voxload.services.base import ComponentRun, Operation, OperationFailedError
from voxload.services.speech.client import STT, TTS, SpeechClient
from voxload.services.speech.material import Script
from voxload.services.speech.options import Address, SpeechOptions
from voxload.services.speech.pacing import Pacer
from voxload.services.speech.results import SUCCESS, Heard, Result, Spoken
from voxload.speech_protocol import TICK_NS
from voxload.wheel import Wheel

EXTRA = "speech"
THREADS = 64
"""For calls of the SDK that block: to start and to stop a recogniser."""
STOP_S = 2.0
"""A recogniser that needs longer to stop, because its service is silent, stops in the background."""
_IDS = re.compile(r"\b(X-ConnectionId|SessionId|websocket connection id|request ?id): *[\w-]+\.?", re.IGNORECASE)
"""They tell equal errors apart."""
_OUTCOMES = {
    "AuthenticationFailure": Outcome.REJECTED,
    "BadRequest": Outcome.REJECTED,
    "Forbidden": Outcome.REJECTED,
    "TooManyRequests": Outcome.REJECTED,
    "ServiceUnavailable": Outcome.REJECTED,
    "ServiceTimeout": Outcome.TIMEOUT,
    "ConnectionFailure": Outcome.CONNECT_FAILED,
}


class SdkClient(SpeechClient):
    """Uses azure-cognitiveservices-speech; audio goes into push streams on our wheel, events come out on its threads.

    The SDK tries a handshake that is answered 429 or 503 up to five times by itself and shows only how it ended: a
    unit of work counts as one request.

    Raises:
        BadInputError: the SDK is not installed, or cannot use what it is given.
    """

    def __init__(
        self,
        address: Address,
        options: SpeechOptions,
        endpoint: str,
        key: str,
        run: ComponentRun,
        wheel: Wheel,
        credential: Any,
    ) -> None:
        super().__init__(address, options, run, wheel)
        self._sdk = require("azure.cognitiveservices.speech", EXTRA)
        self._pool = ThreadPoolExecutor(THREADS, "speech-sdk")
        self._loop = asyncio.get_running_loop()
        self._endpoint, self._key, self._credential = endpoint, key, credential
        self._configs = {language: self._config(language) for language in options.languages}
        self._idle: list[_Synthesiser] = []

    def name(self) -> str:
        """The SDK with its version."""
        return f"azure-cognitiveservices-speech {version('azure-cognitiveservices-speech')}"

    def _config(self, language: str) -> Any:
        sdk, options = self._sdk, self.options
        login: dict[str, Any] = {"subscription": self._key} if self._key else {}
        if self._credential is not None:
            login = {"token_credential": self._credential}
        if options.region:
            if options.token.value:
                login = {"auth_token": options.token.value}
            config = sdk.SpeechConfig(region=options.region, **login)
        elif options.host:
            config = sdk.SpeechConfig(host=options.host, **login)
        else:
            config = sdk.SpeechConfig(endpoint=f"{self._endpoint}/", **login)
        if options.token.value and not options.region:
            config.authorization_token = options.token.value
        config.speech_recognition_language = language
        names = sdk.PropertyId
        if options.stt.segmentation_silence_ns:
            silence_ms = options.stt.segmentation_silence_ns // NS_PER_MS
            config.set_property(names.Speech_SegmentationSilenceTimeoutMs, str(silence_ms))
        if options.stt.detailed:
            config.output_format = sdk.OutputFormat.Detailed
        config.set_property(names.SpeechServiceConnection_SynthOutputFormat, options.tts.audio_format)
        return config

    async def recognise(self, operation: Operation, script: Script, language: str, heard: Heard) -> None:
        """Say a script to a recogniser of its own."""
        stream = _Recogniser(self, operation, script, heard)
        try:
            await stream.run(self._configs[language])
        finally:
            stopped = asyncio.ensure_future(self.blocking(stream.stop))
            await asyncio.wait([stopped], timeout=STOP_S)

    async def synthesise(self, operation: Operation, ssml: str) -> Spoken:
        """Have a text said by a synthesiser that is idle if there is one."""
        spoken = Spoken(0)
        if self._idle:
            synthesiser, spoken.connection = self._idle.pop(), "reused"
        else:
            synthesiser = _Synthesiser(self, next(iter(self._configs.values())))
        await synthesiser.speak(operation, ssml, spoken)
        self.note(operation, TTS, "")
        if self.options.tts.connect == "reuse":
            self._idle.append(synthesiser)
        return spoken

    def note(self, operation: Operation, kind: str, code: str) -> None:
        """Count how a request was answered; `code` is the SDK's, empty for a success."""
        throttled = code == "TooManyRequests"
        operation.observe("throttled", throttled)
        operation.recorder.http_answer(kind, code or "101")
        self.counts["throttled"] += throttled

    def failure(self, operation: Operation, kind: str, details: Any, connected: bool) -> OperationFailedError:
        """Return what a cancellation by the SDK means, and count it."""
        code = (details.code if kind == STT else details.error_code).name
        self.note(operation, kind, code)
        outcome = _OUTCOMES.get(code, Outcome.STEP_FAILED)
        if outcome is Outcome.CONNECT_FAILED and connected:
            outcome = Outcome.DROPPED_BY_TARGET
        words = " ".join(_IDS.sub("", str(details.error_details)).split())
        return OperationFailedError(outcome, f"{code}: {words[:300]}")

    def call_on_loop(self, work: Callable[[], None]) -> None:
        """Do something on our event loop, from a thread of the SDK."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(work)

    async def blocking(self, work: Callable[[], Any]) -> Any:
        """Do what blocks on a thread."""
        return await self._loop.run_in_executor(self._pool, work)

    def push_stream(self) -> Any:
        """Return a stream that takes our audio."""
        audio = self._sdk.audio
        return audio.PushAudioInputStream(audio.AudioStreamFormat(self.options.stt.sample_rate_hz, 16, 1))

    @property
    def sdk(self) -> Any:
        """The SDK's module."""
        return self._sdk

    async def close(self) -> None:
        """Let the synthesisers go."""
        self._idle.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Recogniser:
    """One stream; the SDK's events note what they bring, with the time at which they came."""

    def __init__(self, client: SdkClient, operation: Operation, script: Script, heard: Heard) -> None:
        self._client, self._operation, self._heard = client, operation, heard
        self._options, self._clock = client.options.stt, operation.clock
        self._pacer = Pacer(operation, script, self._options, heard)
        self._connected: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._recogniser: Any = None
        self._connection: Any = None
        self._input: Any = None

    async def run(self, config: Any) -> None:
        """Connect, say it all, and wait for the end."""
        client, operation, pacer = self._client, self._operation, self._pacer
        since_ns = self._clock()
        await client.blocking(lambda: self._start(config))
        timeout_s = client.options.connect_timeout_ns / NS_PER_S
        done, _ = await asyncio.wait((self._connected, pacer.over), timeout=timeout_s, return_when="FIRST_COMPLETED")
        if not done:
            raise OperationFailedError(Outcome.SETUP_TIMEOUT, f"no connection within {timeout_s:g} s (connect_timeout)")
        if pacer.over.done():
            await pacer.over
        operation.latency("speech_connect", since_ns, self._connected.result())
        operation.ready_ns = self._clock()
        client.counts.change_up(1)
        try:
            pacer.start(client.wheel, self._input.write, self._input.close)
            await pacer.over
        finally:
            client.counts.change_up(-1)
        client.note(operation, STT, "")

    def _start(self, config: Any) -> None:
        sdk = self._client.sdk
        self._input = self._client.push_stream()
        audio = sdk.audio.AudioConfig(stream=self._input)
        recogniser = self._recogniser = sdk.SpeechRecognizer(speech_config=config, audio_config=audio)
        if self._options.phrases:
            grammar = sdk.PhraseListGrammar.from_recognizer(recogniser)
            for phrase in self._options.phrases:
                grammar.addPhrase(phrase)
        self._connection = sdk.Connection.from_recognizer(recogniser)
        self._connection.connected.connect(self._on_connected)
        recogniser.recognizing.connect(self._on_interim)
        recogniser.recognized.connect(self._on_final)
        recogniser.canceled.connect(self._on_cancelled)
        recogniser.session_stopped.connect(lambda _: self._client.call_on_loop(self._pacer.succeed))
        recogniser.start_continuous_recognition_async().get()

    def stop(self) -> None:
        """Close the recogniser; blocks until its threads have ended."""
        if self._recogniser is not None:
            with contextlib.suppress(RuntimeError):  # it has failed: there is nothing to stop
                self._recogniser.stop_continuous_recognition_async().get()
        self._recogniser = self._connection = self._input = None

    # --- what the SDK's threads report ---

    def _on_connected(self, _: Any) -> None:
        now_ns = self._clock()

        def note() -> None:
            if not self._connected.done():
                self._connected.set_result(now_ns)

        self._client.call_on_loop(note)

    def _on_interim(self, event: Any) -> None:
        result = event.result
        start_ns = result.offset * TICK_NS
        self._heard.interim.append(Result(self._clock(), start_ns, start_ns + result.duration * TICK_NS))

    def _on_final(self, event: Any) -> None:
        now_ns, result = self._clock(), event.result
        start_ns = result.offset * TICK_NS
        recognised = result.reason == self._client.sdk.ResultReason.RecognizedSpeech
        text, status = result.text, SUCCESS if recognised else "NoMatch"
        if self._options.detailed and recognised:
            best = json.loads(result.json).get("NBest") or [{}]
            text = best[0].get("Lexical", text)
        end_ns = start_ns + result.duration * TICK_NS
        self._heard.final.append(Result(now_ns, start_ns, end_ns, text, status))

    def _on_cancelled(self, event: Any) -> None:
        details = event.cancellation_details
        if details.reason != self._client.sdk.CancellationReason.Error:
            return  # the end of our audio
        self._client.call_on_loop(lambda: self._on_error(details))

    def _on_error(self, details: Any) -> None:
        if not self._pacer.over.done():
            self._pacer.fail(self._client.failure(self._operation, STT, details, self._connected.done()))


class _Synthesiser:
    """A synthesiser with its connection, which the first request opens; for one request at a time."""

    def __init__(self, client: SdkClient, config: Any) -> None:
        self._client = client
        self._synthesiser = client.sdk.SpeechSynthesizer(speech_config=config, audio_config=None)
        self._connection = client.sdk.Connection.from_speech_synthesizer(self._synthesiser)
        self._spoken = Spoken(0)
        self._operation: Operation | None = None
        self._over: asyncio.Future[None] | None = None
        self._connected = False
        self._connection.connected.connect(self._on_connected)
        self._synthesiser.synthesizing.connect(self._on_audio)
        self._synthesiser.synthesis_completed.connect(lambda _: client.call_on_loop(self._finish))
        self._synthesiser.synthesis_canceled.connect(self._on_cancelled)

    async def speak(self, operation: Operation, ssml: str, spoken: Spoken) -> None:
        """Have a text said."""
        self._operation, self._spoken = operation, spoken
        self._over = asyncio.get_running_loop().create_future()
        spoken.asked_ns = operation.clock()
        if self._connected:
            operation.ready_ns = spoken.asked_ns
        started = self._synthesiser.speak_ssml_async(ssml)
        try:
            await self._over
        finally:
            del started

    def _on_connected(self, _: Any) -> None:
        """The connection is there: the text is on its way only now."""
        now_ns, spoken, operation = self._client.run.clock(), self._spoken, self._operation
        self._connected = True
        if operation is not None and not spoken.first_ns:
            since_ns, spoken.asked_ns, operation.ready_ns = spoken.asked_ns, now_ns, now_ns
            self._client.call_on_loop(lambda: operation.latency("speech_connect", since_ns, now_ns))

    def _on_audio(self, event: Any) -> None:
        now_ns, size = self._client.run.clock(), len(event.result.audio_data)
        spoken = self._spoken
        if size:
            spoken.first_ns = spoken.first_ns or now_ns
            spoken.last_ns = now_ns
            spoken.audio_bytes += size

    def _on_cancelled(self, event: Any) -> None:
        details = event.result.cancellation_details
        self._client.call_on_loop(lambda: self._on_error(details))

    def _on_error(self, details: Any) -> None:
        over, operation = self._over, self._operation
        if over is not None and operation is not None and not over.done():
            over.set_exception(self._client.failure(operation, TTS, details, self._connected))

    def _finish(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
