"""What a test of the Speech service may be told: where it is, what is said to it, what it is to say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError, Problem
from voxload.model.base import Model, or_one
from voxload.model.source import Location, Source
from voxload.model.units import DurationNs
from voxload.services.settings import ComponentSettings, Secret, http_url
from voxload.services.speech.files import read_recording, read_texts
from voxload.speech_protocol import SYNTHESIS_PATHS, UNIVERSAL_PATHS, recognition_path

Mode = Literal["stt", "tts", "both"]
AudioFormat = Literal[
    "raw-8khz-8bit-mono-mulaw",
    "raw-8khz-8bit-mono-alaw",
    "raw-8khz-16bit-mono-pcm",
    "raw-16khz-16bit-mono-pcm",
    "raw-24khz-16bit-mono-pcm",
    "raw-48khz-16bit-mono-pcm",
    "riff-8khz-8bit-mono-mulaw",
    "riff-8khz-16bit-mono-pcm",
    "riff-16khz-16bit-mono-pcm",
    "riff-24khz-16bit-mono-pcm",
    "riff-48khz-16bit-mono-pcm",
    "audio-16khz-32kbitrate-mono-mp3",
    "audio-16khz-64kbitrate-mono-mp3",
    "audio-16khz-128kbitrate-mono-mp3",
    "audio-24khz-48kbitrate-mono-mp3",
    "audio-24khz-96kbitrate-mono-mp3",
    "audio-24khz-160kbitrate-mono-mp3",
    "audio-48khz-96kbitrate-mono-mp3",
    "audio-48khz-192kbitrate-mono-mp3",
]
"""Formats of constant bit rate: their bytes tell how long the audio lasts."""
_PCM = re.compile(r"(?:raw|riff)-(\d+)khz-(\d+)bit")
_BIT_RATE = re.compile(r"-(\d+)kbitrate-")
_VOICE = re.compile(r"[A-Za-z]{2,3}-[A-Za-z]{2,4}(-[A-Za-z]+)?-\w+(:\w+)?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})+")
_REGION = re.compile(r"[a-z0-9]+")


def bytes_per_s(audio_format: AudioFormat) -> float:
    """Return how many bytes of audio in a format last a second."""
    pcm = _PCM.match(audio_format)
    if pcm:
        return int(pcm[1]) * 1000 * int(pcm[2]) / 8
    rate = _BIT_RATE.search(audio_format)
    assert rate is not None
    return int(rate[1]) * 1000 / 8


class Address(NamedTuple):
    """Where the two halves of the service are, as URLs of WebSockets without a query."""

    recognition: str
    synthesis: str
    universal: bool
    """The mode of recognition goes into speech.context, not into the path."""


def address_of(endpoint: str, host: str, region: str) -> Address:
    """Return where the service is; exactly one of the three is given."""
    if host:
        return Address(host + recognition_path("conversation"), host + SYNTHESIS_PATHS[1], universal=False)
    if region:
        domain = "speech.microsoft.com"
        stt, tts = f"wss://{region}.stt.{domain}", f"wss://{region}.tts.{domain}"
        return Address(stt + UNIVERSAL_PATHS[1], tts + SYNTHESIS_PATHS[1], universal=True)
    base = "ws" + endpoint.removeprefix("http")
    return Address(base + UNIVERSAL_PATHS[0], base + SYNTHESIS_PATHS[0], universal=True)


class SpokenFile(Model):
    """A recording that is said to the service, with its words."""

    file: str = Field(description="16-bit PCM WAV.")
    text: str = Field(min_length=1, description="What is said in it, for the word error rate.")


class RecognitionOptions(Model):
    """What a stream is: utterances with pauses between, in real time, to one recogniser."""

    utterances: int = Field(3, ge=1, le=1000, description="Said in one stream, one after the other.")
    pause_ns: DurationNs = Field(
        1500 * NS_PER_S // 1000,
        alias="pause",
        description="Silence between them: longer than the service's own patience.",
    )
    finish: Literal["silence", "close"] = Field(
        "silence",
        description="silence: the line stays open until the last final result. close: audio ends with the last word.",
    )
    final_timeout_ns: DurationNs = Field(
        10 * NS_PER_S, alias="final_timeout", gt=0, description="Longest wait for the last result; then it is missed."
    )
    segmentation_silence_ns: DurationNs = Field(
        0,
        alias="segmentation_silence",
        le=5 * NS_PER_S,
        description="Silence after which the service ends a phrase; 0: its own.",
    )
    detailed: bool = Field(False, description="Ask for detailed results; words are then counted on the lexical form.")
    phrases: tuple[str, ...] = Field((), description="Phrase list: words that the service is to expect.")
    sample_rate_hz: Literal[8000, 16000] = Field(16000, alias="sample_rate")
    audio: tuple[SpokenFile, ...] = Field((), description="What is said; by default voxload's own callers.")


class SynthesisOptions(Model):
    """What the service is to say, and how."""

    voice: str = Field("en-US-AvaMultilingualNeural", description="Name of the voice.")
    audio_format: AudioFormat = Field("raw-16khz-16bit-mono-pcm", alias="format")
    texts: tuple[str, ...] = Field((), description="Taken in turn; SSML where one starts with <speak.")
    text_file: str = Field("", description="A file with a text a line, instead of texts.")
    connect: Literal["reuse", "request"] = Field(
        "reuse", description="reuse: a connection serves one request after the other. request: each opens its own."
    )

    @field_validator("voice")
    @classmethod
    def _is_voice(cls, value: str) -> str:
        if not _VOICE.fullmatch(value):
            raise ValueError(f"{value!r} is not the name of a voice such as en-US-AvaMultilingualNeural")
        return value

    @field_validator("texts")
    @classmethod
    def _no_empty_text(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.strip() for text in value):
            raise ValueError("a text is empty")
        return value


class SpeechOptions(Model):
    """The service, the client, the streams, the texts."""

    mode: Mode = Field("stt", description="stt: recognise. tts: synthesise. both: every second unit of work is either.")
    client: Literal["fast", "sdk"] = Field(
        "fast", description="fast: the protocol by our own client. sdk: azure-cognitiveservices-speech."
    )
    endpoint: str = Field(
        "", description="https://NAME.cognitiveservices.azure.com; without any a stand-in is started."
    )
    region: str = Field("", description="Instead of an endpoint: westeurope.")
    host: str = Field("", description="Instead of an endpoint: ws://HOST:PORT of a container.")
    access_key: Secret = Secret()
    token: Secret = Field(Secret(), description="Authorisation token instead of the key.")
    entra: bool = Field(False, description="Use Entra ID (DefaultAzureCredential) instead of a key.")
    languages: tuple[str, ...] = Field(
        ("en-US",), alias="language", min_length=1, description="Taken in turn by streams.", json_schema_extra=or_one
    )
    connect_timeout_ns: DurationNs = Field(10 * NS_PER_S, alias="connect_timeout", gt=0)
    retries: int = Field(
        4, ge=0, le=20, description="Of a handshake that is answered 429 or 503 (fast; the SDK has its own rule)."
    )
    back_off_ns: DurationNs = Field(
        NS_PER_S // 2,
        alias="back_off",
        description="Before the first retry, doubled for each further; Retry-After wins.",
    )
    stt: RecognitionOptions = RecognitionOptions()
    tts: SynthesisOptions = SynthesisOptions()
    service: dict[str, Any] = Field({}, description="Settings of the stand-in: limits, latencies, faults.")

    @field_validator("endpoint")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @field_validator("region")
    @classmethod
    def _is_region(cls, value: str) -> str:
        if value and not _REGION.fullmatch(value):
            raise ValueError(f"{value!r} is not a region such as westeurope")
        return value

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if value and not value.startswith(("ws://", "wss://")):
            raise ValueError(f"{value!r} does not start with ws:// or wss://")
        return value.rstrip("/")

    @field_validator("languages", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("languages")
    @classmethod
    def _are_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for language in value:
            if not _LANGUAGE.fullmatch(language):
                raise ValueError(f"{language!r} is not a language such as en-US")
        return value

    @property
    def own_service(self) -> bool:
        """Whether the command is to start a stand-in."""
        return not (self.endpoint or self.region or self.host)

    @model_validator(mode="after")
    def _one_service(self) -> SpeechOptions:
        places = [name for name in ("endpoint", "region", "host") if getattr(self, name)]
        problems = []
        if len(places) > 1:
            problems.append(f"give one of {', '.join(places)}")
        ways = sum([self.access_key.given, self.token.given, self.entra])
        if places and ways != 1 and not (self.host and not ways):  # a container may ask for no key
            problems.append("a service needs exactly one of access_key, token, entra: true")
        if self.entra and places and not self.endpoint:
            problems.append("entra: true needs the endpoint of the resource's own domain")
        if self.tts.texts and self.tts.text_file:
            problems.append("tts: give texts or text_file, not both")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class SpeechSettings(ComponentSettings):
    """The file of `voxload component speech`."""

    component: Literal["speech"]
    options: SpeechOptions = SpeechOptions()

    @classmethod
    def problems_outside(cls, source: Source) -> Iterator[Problem]:
        """Return what is wrong with recordings and texts."""
        folder, options = Path(source.file).parent, ("options",)
        recordings = _at(source.data, (*options, "stt", "audio"))
        for number, entry in enumerate(recordings if isinstance(recordings, list) else ()):
            name = entry.get("file") if isinstance(entry, dict) else None
            if isinstance(name, str):
                place = (*options, "stt", "audio", number, "file")
                yield from _problems(lambda path: read_recording(path, ""), folder / name, source, place)
        name = _at(source.data, (*options, "tts", "text_file"))
        if isinstance(name, str) and name:
            yield from _problems(read_texts, folder / name, source, (*options, "tts", "text_file"))


def _at(data: Any, location: Location) -> Any:
    for part in location:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _problems(read: Callable[[Path], object], path: Path, source: Source, place: Location) -> Iterator[Problem]:
    try:
        read(path)
    except BadInputError as error:
        where = ".".join(map(str, place))
        for problem in error.problems:
            yield Problem(f"{where}: {path} {problem.message}", source.file, source.line(place), problem.suggestion)
