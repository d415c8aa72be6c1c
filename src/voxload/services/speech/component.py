"""`voxload component speech`: streams recognised in real time, and texts synthesised."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem, RunAbortedError
from voxload.measure.recorder import Recorder
from voxload.model.outcome import Outcome
from voxload.services.base import Component, ComponentRun, Operation, OperationFailedError
from voxload.services.settings import ComponentSettings
from voxload.services.speech.client import STT, TTS, Credentials, SpeechClient, entra_credential
from voxload.services.speech.fast import FastClient
from voxload.services.speech.material import Material
from voxload.services.speech.options import SpeechSettings, address_of, bytes_per_s
from voxload.services.speech.results import SUCCESS, Heard
from voxload.services.stand_in import OwnStandIn
from voxload.standins.speech.settings import DEVELOPMENT_KEY
from voxload.timer import WheelTimer
from voxload.wheel import Wheel


class SpeechComponent(Component[SpeechSettings]):
    """Speaks to the service or, where none is named, to a stand-in of its own."""

    name: ClassVar[str] = "speech"
    settings_type: ClassVar[type[ComponentSettings]] = SpeechSettings
    target_option: ClassVar[str] = "endpoint"
    headline: ClassVar[tuple[str, ...]] = ("stt_final_latency", "stt_interim_latency", "tts_first_byte")
    lateness_limit_ms: ClassVar[float] = 20.0  # a fifth of a message

    def __init__(self, settings: SpeechSettings, run: ComponentRun) -> None:
        super().__init__(settings, run)
        options = self._options = settings.options
        self._material = Material(options.stt, options.tts, options.languages, settings.folder)
        self._stand_in = OwnStandIn("speech")
        self._client: SpeechClient | None = None
        self._credential: Any = None
        self._timer: WheelTimer | None = None
        self._bytes_per_s = bytes_per_s(options.tts.audio_format)
        self._heard_ns = self._characters = 0
        self._spoken_s = 0.0

    @classmethod
    def headline_of(cls, settings: ComponentSettings) -> tuple[str, ...]:
        """Return the metrics of what is tested: recognition, synthesis or both."""
        assert isinstance(settings, SpeechSettings)
        mode = settings.options.mode
        return tuple(name for name in cls.headline if mode == "both" or name.startswith(mode))

    @property
    def target(self) -> str:
        """The service's address."""
        options = self._options
        return options.endpoint or options.host or options.region or "stand-in for Speech"

    async def set_up(self) -> None:
        """Start the stand-in if there is to be one, prepare the audio, and see that the service lets us in."""
        options, key = self._options, self._options.access_key.value
        endpoint = options.endpoint
        if options.own_service:
            key, endpoint = DEVELOPMENT_KEY, await self._stand_in.start(options.service)
        if options.mode != TTS:
            self._prepare_streams()
        wheel = Wheel(self.run.clock())
        self._timer = WheelTimer.on_loop(wheel, self.run.clock, asyncio.get_running_loop())
        self._timer.start()
        address = address_of(endpoint, options.host, options.region)
        if options.entra:
            self._credential = entra_credential(asynchronous=True)
        credentials = Credentials(key, options.token.value, self._credential, self.run.unix_ns)
        fast = FastClient(address, options, credentials, self.run, wheel)
        await self._probe(fast)
        self._client = fast
        if options.client == "sdk":
            from voxload.services.speech.sdk import SdkClient  # noqa: PLC0415  # the extra speech

            entra = entra_credential(asynchronous=False) if options.entra else None
            self._client = SdkClient(address, options, endpoint, key, self.run, wheel, entra)

    def _prepare_streams(self) -> None:
        timeout_ns, most_ns = self.settings.timeout_ns, self._material.prepare()
        if most_ns > timeout_ns:
            message = f"timeout: {timeout_ns / NS_PER_S:g} s is too short for streams of {most_ns / NS_PER_S:.0f} s"
            hint = "let them hold fewer utterances (options.stt.utterances), or shorter ones"
            raise BadInputError([Problem(message, suggestion=hint)])

    async def _probe(self, client: FastClient) -> None:
        """Open one connection of each kind; what it measures is thrown away."""
        now_ns = self.run.clock()
        probe = Operation(0, "probe", "probe", now_ns, self.run.clock, Recorder(), ())
        for kind in (STT, TTS):
            if self._options.mode not in {kind, "both"}:
                continue
            try:
                await client.probe(probe, kind)
            except OperationFailedError as failed:
                raise RunAbortedError(f"{self.target} cannot be used: {kind}: {failed.reason}") from None
        client.counts.clear()

    async def operate(self, operation: Operation) -> None:
        """Say one stream to the service, or have one text said."""
        mode, number = self._options.mode, operation.index
        kind: str = mode
        if mode == "both":
            number, odd = divmod(number, 2)
            kind = TTS if odd else STT
        operation.labels = tuple(sorted((*operation.labels, ("kind", kind))))
        await (self._recognise if kind == STT else self._synthesise)(operation, number)

    async def _recognise(self, operation: Operation, number: int) -> None:
        assert self._client is not None
        script, language, heard = self._material.script(number), self._material.language(number), Heard()
        if len(self._options.languages) > 1:
            operation.labels = tuple(sorted((*operation.labels, ("language", language))))
        try:
            await self._client.recognise(operation, script, language, heard)
        except OperationFailedError as failed:
            raise OperationFailedError(failed.outcome, f"{STT}: {failed.reason}") from None
        finally:
            self._heard_ns += heard.sent_ns
            heard.score(operation, script)
        if not any(result.status == SUCCESS for result in heard.final):
            raise OperationFailedError(Outcome.STEP_FAILED, f"{STT}: nothing was recognised: {heard.statuses}")

    async def _synthesise(self, operation: Operation, number: int) -> None:
        assert self._client is not None
        try:
            spoken = await self._client.synthesise(operation, self._material.ssml(number))
        except OperationFailedError as failed:
            raise OperationFailedError(failed.outcome, f"{TTS}: {failed.reason}") from None
        header = 44 if self._options.tts.audio_format.startswith("riff") else 0
        audio_s = max(spoken.audio_bytes - header, 0) / self._bytes_per_s
        if not audio_s:
            raise OperationFailedError(Outcome.STEP_FAILED, f"{TTS}: the answer holds no audio")
        spoken.score(operation, audio_s)
        self._characters += len(self._material.text(number))
        self._spoken_s += audio_s

    async def tear_down(self) -> None:
        """Close the connections, and stop the stand-in."""
        if self._client is not None:
            await self._client.close()
        if self._timer is not None:
            self._timer.stop()
        if self._credential is not None:
            await self._credential.close()
        await self._stand_in.stop()

    def died(self) -> str:
        """Return whether the stand-in has died."""
        return self._stand_in.died()

    def doubt(self) -> str:
        """Return whether the stand-in met a limit of this machine."""
        return self._stand_in.doubt()

    def facts(self) -> dict[str, str]:
        """Tell the client, the amounts that are billed, and what the limits did."""
        if self._client is None:
            return {}
        counts, mode = self._client.counts, self._options.mode
        facts = {"client": self._client.name()}
        if mode != TTS:
            facts["streams up at most"] = f"{counts.most_up:,}"
            facts["audio recognised"] = f"{self._heard_ns / NS_PER_S:,.1f} s"
        if mode != STT:
            facts["characters synthesised"] = f"{self._characters:,}"
            facts["audio synthesised"] = f"{self._spoken_s:,.1f} s"
        facts["throttled"] = f"{counts['throttled']:,}"
        if self._options.client == "sdk":
            facts["retries"] = "by the SDK's own rule, which it does not tell"
        else:
            facts["retries"] = f"{counts['retries']:,}, waited {counts.back_off_ns / NS_PER_S:.2f} s over all"
        if counts["turns"]:
            facts["turns that the service ended early"] = f"{counts['turns']:,}"
        return facts
