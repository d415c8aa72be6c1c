"""Settings of the embedded voice agent (the twin): latencies that it must keep, quotas, faults."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from voxload.model.base import Model, ShortModel
from voxload.model.units import DurationNs


class Lognormal(Model):
    """A lognormal latency, given by two of its percentiles."""

    median_ns: DurationNs = Field(alias="median", description="The 50th percentile.")
    p95_ns: DurationNs = Field(alias="p95", description="The 95th percentile.")

    @model_validator(mode="after")
    def _ordered(self) -> Lognormal:
        if not 0 < self.median_ns <= self.p95_ns:
            raise ValueError("a lognormal latency needs 0 < median <= p95")
        return self


class Gamma(Model):
    """A gamma latency, given by its mean and shape k (k = 1 is exponential; larger is narrower)."""

    mean_ns: DurationNs = Field(alias="mean")
    shape: float = Field(gt=0)


class LatencySettings(ShortModel):
    """How long a stage takes: exactly one of the forms; a plain duration means `fixed`."""

    short_field: ClassVar[str] = "fixed"

    fixed_ns: DurationNs | None = Field(None, alias="fixed", description="Always exactly this long.")
    lognormal: Lognormal | None = None
    gamma: Gamma | None = None
    empirical_ns: tuple[DurationNs, ...] | None = Field(
        None, alias="empirical", description="Draw evenly from these measured values."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> LatencySettings:
        forms = (self.fixed_ns, self.lognormal, self.gamma, self.empirical_ns)
        if sum(form is not None for form in forms) != 1:
            raise ValueError("give exactly one of fixed, lognormal, gamma, empirical")
        if self.empirical_ns is not None and not self.empirical_ns:
            raise ValueError("empirical needs at least one value")
        return self


def _fixed(text: str) -> LatencySettings:
    return LatencySettings.model_validate(text)


class AgentLatency(Model):
    """Latency of a turn, from the caller's last active sample to the first audible sample of the reply.

    Either `turn` as a whole, or the three stages, which add up.
    """

    turn: LatencySettings | None = Field(None, description="The whole turn; then the stages must be left out.")
    stt: LatencySettings = Field(default_factory=lambda: _fixed("120ms"), description="Speech to text.")
    llm: LatencySettings = Field(default_factory=lambda: _fixed("350ms"), description="Text to first token.")
    tts: LatencySettings = Field(default_factory=lambda: _fixed("130ms"), description="First token to first audio.")

    @model_validator(mode="before")
    @classmethod
    def _whole_or_stages(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("turn") is not None and value.keys() & {"stt", "llm", "tts"}:
            raise ValueError("give either turn or the stages stt, llm, tts, not both")
        return value


class Quotas(Model):
    """Limits of the services behind the agent; 0 means no limit."""

    connections: int = Field(0, ge=0, description="Calls at once; further ones are refused with 503.")
    concurrent_stt: int = Field(0, ge=0, description="Callers transcribed at once.")
    tokens_per_minute: int = Field(0, ge=0, description="LLM tokens a minute; beyond it the LLM answers 429.")
    tokens_per_turn: int = Field(600, ge=1, description="Tokens that one turn costs.")
    when_exceeded: Literal["wait", "fail"] = Field(
        "wait", description="wait: report 429, retry after the stated time, reply late. fail: report 429, no reply."
    )


Share = Annotated[float, Field(ge=0, le=1)]


class Stall(Model):
    """The agent's process stands still once: nothing is read, nothing is sent."""

    at_ns: DurationNs = Field(alias="at", description="After the first call has arrived.")
    for_ns: DurationNs = Field(alias="for")


class Underruns(Model):
    """Replies with a hole: in the middle nothing is sent for `gap`, and all later frames are late by as much."""

    rate: Share = Field(description="Share of replies.")
    gap_ns: DurationNs = Field(alias="gap", gt=0)


class LateFrames(Model):
    """Jitter: single frames of paced speech that are sent late; those behind wait for them, as TCP makes them."""

    rate: Share = Field(description="Share of frames.")
    by_ns: DurationNs = Field(alias="by", gt=0)


class LateGreeting(Model):
    """Greetings that come later than `greeting_delay`."""

    rate: Share = Field(description="Share of calls.")
    by_ns: DurationNs = Field(alias="by", gt=0)


class AgentFaults(Model):
    """What the agent does wrong on purpose. Each case is drawn from the seed, the call and the turn alone."""

    stalls: tuple[Stall, ...] = ()
    silent_rate: Share = Field(0.0, description="Share of turns that get no reply.")
    drop_rate: Share = Field(0.0, description="Share of calls that the agent cuts in mid-reply.")
    reject_rate: Share = Field(0.0, description="Share of calls refused with 503.")
    garbage_rate: Share = Field(0.0, description="Share of calls whose first reply is not the protocol.")
    session_leak_rate: Share = Field(0.0, description="Share of calls whose place is never given to another one.")
    flood_rate: Share = Field(0.0, description="Share of calls that are flooded with messages.")
    missing_greeting_rate: Share = Field(0.0, description="Share of calls in which the agent does not speak first.")
    late_greeting: LateGreeting | None = None
    intent_error_rate: Share = Field(0.0, description="Share of turns taken for another intent, and answered so.")
    word_error_rate: Share = Field(
        0.0, description="Expected word error rate of transcripts: each word is drawn to be wrong or not."
    )
    ignore_barge_in_rate: Share = Field(0.0, description="Share of replies that the agent does not stop for anybody.")
    false_barge_in_rate: Share = Field(0.0, description="Share of backchannels for which the agent stops all the same.")
    agent_interruption_rate: Share = Field(0.0, description="Share of utterances that the agent speaks into.")
    agent_interruption_after_ns: DurationNs = Field(
        500_000_000, alias="agent_interruption_after", description="From the caller's onset to the agent's words."
    )
    underruns: Underruns | None = None
    late_frames: LateFrames | None = None
    truncated_rate: Share = Field(0.0, description="Share of replies that end in the middle as if they were complete.")
    empty_audio_rate: Share = Field(0.0, description="Share of replies that are announced and closed without audio.")
    clipped_rate: Share = Field(0.0, description="Share of replies that are clipped at full scale.")
    wrong_rate: Share = Field(0.0, description="Share of replies sent at half the announced sample rate.")


EnvelopeMoment = Literal["connected", "speech_end", "transcript", "reply"]
ENVELOPE_VARIABLES = ("heard", "intent", "reply", "call_id", "turn")


class Envelope(Model):
    """A JSON message of the agent's own, which the protocol does not have: status, stages, transcripts, refusals."""

    moment: EnvelopeMoment = Field(
        description="connected: the media socket is open. speech_end: the caller's last active sample. transcript: the "
        "words are understood. reply: the answer begins."
    )
    after_ns: DurationNs = Field(0, alias="after", description="After that moment.")
    share: Share = Field(1.0, description="Share of the turns (for connected: of the calls) in which it is sent.")
    send: dict[str, Any] = Field(
        description="The message; `${heard}`, `${intent}`, `${reply}`, `${call_id}` and `${turn}` may stand in texts."
    )

    @field_validator("send")
    @classmethod
    def _known_variables(cls, value: dict[str, Any]) -> dict[str, Any]:
        for text in _texts(value):
            template = Template(text)
            names = template.get_identifiers() if template.is_valid() else [text]
            for name in names:
                if name not in ENVELOPE_VARIABLES:
                    known = ", ".join(f"${{{variable}}}" for variable in ENVELOPE_VARIABLES)
                    raise ValueError(f"{name!r} is not known here; write {known}, or $$ for a dollar sign")
        return value


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


class TwinSettings(Model):
    """The embedded voice agent: what a scenario's `twin:` holds, and the file that `voxload twin` takes."""

    mode: Literal["modelled", "real"] = Field(
        "modelled",
        description="modelled: latencies and errors are drawn as told, for thousands of calls. real: a voice activity "
        "detector ends utterances, a recogniser hears words, and it takes as long as it takes; for a handful of calls "
        "(needs voxload[real]).",
    )
    latency: AgentLatency = Field(AgentLatency(), description="Of modelled turns.")
    endpoint_silence_ns: DurationNs = Field(
        500_000_000,
        alias="endpoint_silence",
        gt=0,
        description="Silence that ends an utterance, where no message does (real agents never wait for one).",
    )
    greeting: bool = Field(True, description="The agent speaks first.")
    greeting_delay_ns: DurationNs = Field(200_000_000, alias="greeting_delay")
    reply_seconds_max: float | None = Field(
        None, gt=0, description="Cut replies to this length, so that short tests see many turns."
    )
    delivery: Literal["paced", "burst"] = Field("paced", description="Send speech in real time, or all at once.")
    barge_in_delay_ns: DurationNs = Field(
        200_000_000, alias="barge_in_delay", description="From the caller's voice over the agent's to the agent's stop."
    )
    backchannel_tolerance_ns: DurationNs = Field(
        100_000_000,
        alias="backchannel_tolerance",
        description="Speech over the agent's that is shorter does not stop it. The agent cannot stop before it knows: "
        "where barge_in_delay is less than this and a frame, it stops as soon as it knows.",
    )
    envelopes: tuple[Envelope, ...] = Field((), description="Messages beside the protocol, at stated times.")
    quotas: Quotas = Quotas()
    faults: AgentFaults = AgentFaults()
    seed: int = 1


Port = Annotated[int, Field(ge=0, le=65535)]
