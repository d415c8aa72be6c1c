"""What a caller does in a call: the steps of its script, as a scenario states them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from voxload.model.base import Model, ShortModel
from voxload.model.units import DurationNs, SpanNs

TEXT = "What is said, to count wrong words: of a WAV file, or in place of the corpus' words."
INTENT = "What the agent must take it for: of a WAV file, or in place of the corpus' intent."


class Say(ShortModel):
    """Say an utterance and owe the agent the next turn."""

    short_field: ClassVar[str] = "utterance"

    utterance: str = Field(
        description="An utterance or an intent of the speech corpus (then one is drawn), or a path to a WAV file."
    )
    turn: str = Field("", description="Name of the turn in reports and gates; the intent by default.")
    text: str = Field("", description=TEXT)
    intent: str = Field("", description=INTENT)


class WaitForAgent(ShortModel):
    """Wait until the agent has spoken and finished."""

    short_field: ClassVar[str] = "timeout"

    timeout_ns: DurationNs | None = Field(None, alias="timeout", description="Default: timeouts.agent_reply.")


class WaitForHangUp(ShortModel):
    """Wait until the agent ends the call: that completes it."""

    short_field: ClassVar[str] = "timeout"

    timeout_ns: DurationNs | None = Field(None, alias="timeout", description="Default: timeouts.agent_reply.")


class Think(ShortModel):
    """Pause, as a person does before the next sentence."""

    short_field: ClassVar[str] = "duration"

    duration_ns: SpanNs = Field(alias="duration")


class Listen(ShortModel):
    """Listen for a set time, whatever the agent does."""

    short_field: ClassVar[str] = "duration"

    duration_ns: SpanNs = Field(alias="duration")


class BargeIn(ShortModel):
    """Wait until the agent has spoken for `after`, then speak over it."""

    short_field: ClassVar[str] = "utterance"

    utterance: str = Field(description="As for say.")
    after_ns: SpanNs = Field((1_000_000_000, 1_000_000_000), alias="after", description="Into the agent's speech.")
    timeout_ns: DurationNs | None = Field(None, alias="timeout", description="Default: timeouts.agent_reply.")
    turn: str = ""
    text: str = Field("", description=TEXT)
    intent: str = Field("", description=INTENT)


class Backchannel(ShortModel):
    """Make a sound into the agent's speech that must not stop it: an mm-hm, a cough."""

    short_field: ClassVar[str] = "utterance"

    utterance: str = Field("backchannel", description="backchannel, noise, or as for say.")
    after_ns: SpanNs = Field((1_000_000_000, 1_000_000_000), alias="after", description="Into the agent's speech.")
    timeout_ns: DurationNs | None = Field(None, alias="timeout", description="Default: timeouts.agent_reply.")


class Dtmf(ShortModel):
    """Press keys."""

    short_field: ClassVar[str] = "digits"

    digits: str = Field(pattern=r"^[0-9A-D*#]+$", description="Keys: 0-9, A-D, * and #.")
    gap_ns: DurationNs = Field(200_000_000, alias="gap", description="Between two keys.")

    @model_validator(mode="before")
    @classmethod
    def _digits_may_be_a_number(cls, value: Any) -> Any:
        return {"digits": str(value)} if isinstance(value, int) and not isinstance(value, bool) else value


class Repeat(Model):
    """Do steps again, a number of times or until the call is old enough."""

    times: int | None = Field(None, ge=1)
    until_ns: DurationNs | None = Field(None, alias="until", description="Age of the call at which no round starts.")
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _exactly_one_end(self) -> Repeat:
        if (self.times is None) == (self.until_ns is None):
            raise ValueError("repeat needs exactly one of times and until")
        return self


class SayStep(Model):
    """`say:`."""

    say: Say


class WaitForAgentStep(Model):
    """`wait_for_agent:`."""

    wait_for_agent: WaitForAgent


class WaitForHangUpStep(Model):
    """`wait_for_hang_up:`."""

    wait_for_hang_up: WaitForHangUp


class ThinkStep(Model):
    """`think:`."""

    think: Think


class ListenStep(Model):
    """`listen:`."""

    listen: Listen


class BargeInStep(Model):
    """`barge_in:`."""

    barge_in: BargeIn


class BackchannelStep(Model):
    """`backchannel:`."""

    backchannel: Backchannel


class DtmfStep(Model):
    """`dtmf:`."""

    dtmf: Dtmf


class RepeatStep(Model):
    """`repeat:`."""

    repeat: Repeat


STEP_NAMES = (
    "say",
    "wait_for_agent",
    "think",
    "listen",
    "barge_in",
    "backchannel",
    "dtmf",
    "repeat",
    "wait_for_hang_up",
    "hang_up",
)
"""The steps of a script; `wait_for_agent`, `wait_for_hang_up` and `hang_up` may stand as plain words."""


def _step_name(value: Any) -> str | None:
    if isinstance(value, str):
        return "word" if value in STEP_NAMES else None
    if isinstance(value, dict):
        return str(next(iter(value))) if len(value) == 1 else None
    name = next(iter(type(value).model_fields), None) if hasattr(type(value), "model_fields") else None
    return str(name)


Step = Annotated[
    Annotated[SayStep, Tag("say")]
    | Annotated[WaitForAgentStep, Tag("wait_for_agent")]
    | Annotated[WaitForHangUpStep, Tag("wait_for_hang_up")]
    | Annotated[ThinkStep, Tag("think")]
    | Annotated[ListenStep, Tag("listen")]
    | Annotated[BargeInStep, Tag("barge_in")]
    | Annotated[BackchannelStep, Tag("backchannel")]
    | Annotated[DtmfStep, Tag("dtmf")]
    | Annotated[RepeatStep, Tag("repeat")]
    | Annotated[Literal["wait_for_agent", "wait_for_hang_up", "hang_up"], Tag("word")],
    Discriminator(
        _step_name,
        custom_error_type="step",
        custom_error_message=f"not a step; a step is one of {', '.join(STEP_NAMES)}",
    ),
]
"""One step of a script."""

Repeat.model_rebuild()
RepeatStep.model_rebuild()

Place = tuple[str | int, ...]
"""Where something stands in a file: the keys and positions that lead to it."""


def waiting_time_ns(step: Step) -> int | None:
    """Return the time-out that a waiting step states; None where it leaves it to `timeouts.agent_reply`."""
    match step:
        case WaitForAgentStep(wait_for_agent=wait):
            return wait.timeout_ns
        case WaitForHangUpStep(wait_for_hang_up=wait):
            return wait.timeout_ns
        case _:
            return None


def walk_steps(steps: Sequence[Step], place: Place = ()) -> Iterator[tuple[Place, Step]]:
    """Yield each step with its place, those inside `repeat` too."""
    for number, step in enumerate(steps):
        here = (*place, number)
        yield here, step
        if isinstance(step, RepeatStep):
            yield from walk_steps(step.repeat.steps, (*here, "repeat", "steps"))


def spoken(steps: Sequence[Step], place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield every utterance or intent that a script says, with its place."""
    for here, step in walk_steps(steps, place):
        match step:
            case SayStep(say=said):
                yield (*here, "say", "utterance"), said.utterance
            case BargeInStep(barge_in=said):
                yield (*here, "barge_in", "utterance"), said.utterance
            case BackchannelStep(backchannel=said):
                yield (*here, "backchannel", "utterance"), said.utterance
            case _:
                pass


def labelled(steps: Sequence[Step]) -> Iterator[tuple[str, str, str]]:
    """Yield (utterance, text, intent) of all that a script says; texts and intents are empty where it states none."""
    for _, step in walk_steps(steps):
        match step:
            case SayStep(say=said) | BargeInStep(barge_in=said):
                yield said.utterance, said.text, said.intent
            case BackchannelStep(backchannel=said):
                yield said.utterance, "", ""
            case _:
                pass
