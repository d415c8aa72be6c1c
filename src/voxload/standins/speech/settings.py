"""What the stand-in for the Speech service may be told: keys, latencies, quotas, faults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxload.clock import NS_PER_MS, NS_PER_S
from voxload.model.base import Model
from voxload.model.twin import LatencySettings, Share
from voxload.model.units import DurationNs

DEVELOPMENT_KEY = "voxload-development-key"
"""The key of a stand-in that is told none; no secret."""
SEGMENTATION_MIN_NS = 250 * NS_PER_MS
"""A shorter pause is none to the speech detector."""


class KnownRecording(Model):
    """Audio of one's own that is to be recognised."""

    file: str = Field(min_length=1, description="A WAV file, 16-bit PCM.")
    text: str = Field(min_length=1, description="What is said in it.")


class RecognitionSettings(Model):
    """Speech to text."""

    final_latency: LatencySettings = Field(
        LatencySettings.model_validate("700ms"),
        description="From the end of speech in the audio that arrived to the final phrase; never before "
        "segmentation_silence has arrived, unless the audio ends.",
    )
    interim_latency: LatencySettings = Field(
        LatencySettings.model_validate("150ms"), description="From audio that arrived to the hypothesis that knows it."
    )
    interim_every_ns: DurationNs = Field(
        300 * NS_PER_MS, alias="interim_every", description="Speech between two hypotheses. 0: none are sent."
    )
    segmentation_silence_ns: DurationNs = Field(
        500 * NS_PER_MS,
        alias="segmentation_silence",
        ge=SEGMENTATION_MIN_NS,
        le=5 * NS_PER_S,
        description="Silence that ends a phrase, where the client sets none.",
    )
    initial_silence_ns: DurationNs | None = Field(
        None,
        alias="initial_silence",
        gt=0,
        description="Silence that ends the wait for speech, where the client sets none: 5 s when it recognises once, "
        "15 s when continuously.",
    )
    concurrent: int = Field(100, ge=0, description="Recognitions at once. 0: no limit.")
    over_quota: Literal["handshake", "close"] = Field(
        "handshake", description="Above `concurrent`: handshake answers 429, close closes with 4429 once audio comes."
    )
    recordings: tuple[KnownRecording, ...] = Field((), description="Known beside what the corpus holds.")
    unknown_text: str | None = Field(
        "Speech that is not known.", description="What is recognised in any other speech. null: NoMatch."
    )

    @model_validator(mode="after")
    def _latency_can_be_kept(self) -> RecognitionSettings:
        fixed_ns = self.final_latency.fixed_ns
        if fixed_ns is not None and fixed_ns < self.segmentation_silence_ns:
            raise ValueError(
                "final_latency is shorter than segmentation_silence, and no phrase ends before that much silence"
            )
        return self


class SynthesisSettings(Model):
    """Text to speech."""

    first_byte: LatencySettings = Field(
        LatencySettings.model_validate("150ms"), description="From the text to the first audio."
    )
    real_time_factor: float = Field(
        0.1, ge=0, le=100, description="How long audio takes to make, for each second of it. 0: all at once."
    )
    transactions_per_s: int = Field(200, ge=0, description="Texts a second; more are refused. 0: no limit.")
    characters_per_s: float = Field(15.0, gt=0, description="How fast text is spoken that is not in the corpus.")


class SpeechFaults(Model):
    """What goes wrong; shares of recognitions (of phrases for no_match_rate and word_error_rate) and of syntheses."""

    error_rate: Share = Field(0.0, description="Handshakes and requests answered 503.")
    disconnect_rate: Share = Field(0.0, description="Connections lost in the middle.")
    no_match_rate: Share = Field(0.0, description="Phrases that are not understood.")
    word_error_rate: Share = Field(0.0, description="Expected word error rate of final phrases.")


class SpeechSettings(Model):
    """The stand-in for the Speech service."""

    keys: tuple[str, ...] = Field((DEVELOPMENT_KEY,), description="Subscription keys; none: no key is needed.")
    entra_tokens: bool = Field(True, description="Take any bearer token that has the form of a JSON Web Token, too.")
    recognition: RecognitionSettings = RecognitionSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    faults: SpeechFaults = SpeechFaults()
    seed: int = Field(1, ge=0)
